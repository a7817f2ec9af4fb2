"""The hourly growth of pools and subnets, computed from the events of the log."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.pool_growth import HOUR_MS, GrowthLog, GrowthSubject
from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.configuration.commands import ApplyPool, ApplySubnet, DeletePool, RetirePool
from core.domain.forecast import HOURS_MAX
from core.domain.model import Pool, Subnet
from tests.support.archived_cluster import (
    TEST_KEYS,
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    Configure,
    action_lists,
    archived_cluster,
)

MAIN = GrowthSubject("pool", "main")


def set_clocks(cluster: ArchivedCluster, now_ms: int) -> None:
    cluster.now_ms = lambda: now_ms


async def read(cluster: ArchivedCluster, growth: GrowthLog | None = None) -> GrowthLog:
    """Read the new events into ``growth``; without it, read all events."""
    growth = growth or GrowthLog()
    await growth.read(await cluster.view(), cluster.now_ms())
    return growth


@pytest.mark.parametrize("is_sealed", [False, True])
async def test_the_growth_of_an_hour_is_its_claims_minus_its_releases(
    archived_cluster: ArchivedCluster, is_sealed: bool
) -> None:
    start = (await archived_cluster.replayed())[-1].recorded_at_ms // HOUR_MS * HOUR_MS
    for hour, actions in (  # no events in hours 0, 2 and 4
        (1, [CniAdd("node-a", "web-1"), CniAdd("node-a", "web-2")]),
        (3, [CniDel("node-a", "web-1")]),
    ):
        set_clocks(archived_cluster, start + hour * HOUR_MS)
        await archived_cluster.execute(actions)
        if is_sealed:
            await archived_cluster.seal()
    now_ms = start + 5 * HOUR_MS + 1
    pool = (await archived_cluster.node.read_ledger()).endpoints["shop", "web-2"].nics[0].ipv4_pool
    set_clocks(archived_cluster, now_ms)

    growth = await read(archived_cluster)

    assert growth.net_growth(GrowthSubject("pool", pool), now_ms) == [0, 2, 0, -1, 0]


async def test_an_undecodable_segment_is_reported_and_other_segments_count(
    archived_cluster: ArchivedCluster,
) -> None:
    start = (await archived_cluster.replayed())[-1].recorded_at_ms // HOUR_MS * HOUR_MS
    position = await archived_cluster.commit_undecodable_segment()
    set_clocks(archived_cluster, start + HOUR_MS)
    await archived_cluster.execute([CniAdd("node-a", "web-1")])
    pool = (await archived_cluster.node.read_ledger()).endpoints["shop", "web-1"].nics[0].ipv4_pool
    now_ms = start + 3 * HOUR_MS
    unread = UnreadPartList()
    store, files, clock = archived_cluster.store, archived_cluster.files, archived_cluster.now_ms
    view = await open_log(store, TEST_KEYS, files, now_ms=clock, unread=unread)
    growth = GrowthLog()

    await growth.read(view, now_ms)

    assert growth.net_growth(GrowthSubject("pool", pool), now_ms) == [0, 1, 0]
    assert [part.first_position for part in unread.parts()] == [position]


async def test_the_current_hour_does_not_count_yet(archived_cluster: ArchivedCluster) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-1")])
    now_ms = (await archived_cluster.replayed())[-1].recorded_at_ms

    growth = await read(archived_cluster)

    assert growth.net_growth(MAIN, now_ms) == []


async def test_events_older_than_four_weeks_do_not_count(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-1")])
    await archived_cluster.seal()
    now_ms = archived_cluster.now_ms() + (HOURS_MAX + 2) * HOUR_MS
    set_clocks(archived_cluster, now_ms)

    growth = await read(archived_cluster)

    for name in (await archived_cluster.node.read_ledger()).pools:
        assert growth.net_growth(GrowthSubject("pool", name), now_ms) == [0] * HOURS_MAX


@given(action_lists, action_lists)
@settings(max_examples=10)
async def test_reading_the_log_in_two_steps_equals_reading_it_in_one(
    first: list[Action], second: list[Action]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            await cluster.execute(first)
            growth = await read(cluster)
            await cluster.execute(second)
            await cluster.seal()
            set_clocks(cluster, cluster.now_ms() + 2 * HOUR_MS)
            growth = await read(cluster, growth)
            growth_of_one_read = await read(cluster)

            names = (await cluster.node.read_ledger()).pools
            now_ms = cluster.now_ms()
            for subject in [GrowthSubject("pool", name) for name in names]:
                assert growth.net_growth(subject, now_ms) == growth_of_one_read.net_growth(
                    subject, now_ms
                )


async def test_a_subnet_grows_by_the_addresses_of_its_pools(
    archived_cluster: ArchivedCluster,
) -> None:
    cluster = archived_cluster
    start = cluster.now_ms() // HOUR_MS * HOUR_MS
    racks = GrowthSubject("subnet", "racks")
    share = Pool("share", 4, "10.9.0.0/16", ("10.9.0.1-10.9.0.20",), labels={OWNER_SUBNET: "racks"})
    wider_share = share._replace(ips=("10.9.0.1-10.9.0.50",))
    for hour, actions in (
        (1, [Configure(ApplySubnet(Subnet("racks", 4, "10.9.0.0/16", ("10.9.0.1-10.9.0.99",))))]),
        (2, [Configure(ApplyPool(share))]),
        (3, [Configure(ApplyPool(wider_share))]),
        (4, [Configure(RetirePool("share")), Configure(DeletePool("share"))]),
    ):
        set_clocks(cluster, start + hour * HOUR_MS)
        await cluster.execute(actions)
    now_ms = start + 5 * HOUR_MS
    set_clocks(cluster, now_ms)

    assert (await read(cluster)).net_growth(racks, now_ms) == [0, 20, 30, -50]
    # The pool never had a claim.
    assert (await read(cluster)).net_growth(GrowthSubject("pool", "share"), now_ms) == []
