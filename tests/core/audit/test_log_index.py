"""At every position, the log index has the same state as a replay up to this position."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from core.archive.archive_directory import LocalFiles
from core.archive.pruner import Pruner, Retention
from core.archive.snapshot import empty_snapshot
from core.audit.compact_texts import TextColumn
from core.audit.indexed_log import OLD_WINDOWS_MAX, IndexedLog, LogInstant
from core.audit.log_clock import LogClock
from core.audit.log_index import LogIndex
from core.audit.state_at import as_of_position, as_of_time
from core.domain.addresses.ip_address import format_address
from core.domain.configuration.commands import LiftQuarantine, QuarantineAddress, RetirePool
from core.domain.evolution import Ledger
from core.errors import BadInput, StoreUnavailable
from core.eventstore.kv import Get, Put, ReadResult
from core.eventstore.writer import unix_ms
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import (
    TEST_KEYS,
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    Configure,
    action_lists,
)
from tests.support.archived_cluster import (
    archived_cluster as a_cluster,
)
from tests.support.faulty_store import FaultyStore
from tests.support.memory import column_bytes

EVENT_LOOP_TURNS_PER_READ = 50
STORE_READS_TO_OPEN_A_VIEW = 1

ACTIONS: list[Action] = [
    *(CniAdd("node-a", f"web-{number}", of_statefulset=number == 0) for number in range(4)),
    Configure(QuarantineAddress("10.6.0.9", reason="another host", evidence="02:00:01")),
    CniDel("node-a", "web-1"),
    CniAdd("node-b", "web-0", generation=1, of_statefulset=True),
    CniAdd("node-b", "web-1", generation=1),
    Configure(LiftQuarantine("10.6.0.9")),
    Configure(RetirePool("spare")),
    CniDel("node-a", "web-2"),
]


def indexed_state(index: LogIndex, position: int) -> dict[str, object]:
    pools = index.pools.at(position)
    claims = {}
    for name, table in index.holdings.items():
        family = pools[name].family if name in pools else 4
        for row in table.rows_at(position):
            holding = table.holding(row)
            holder = holding.holder
            place = (holder.pod, holder.node, holder.interface)
            claims[format_address(family, holding.value)] = (name, *place, holder.revision)
        assert len(table.values_at(position)) == table.count_at(position)
    return {
        "claims": claims,
        "pools": pools,
        "subnets": index.subnets.at(position),
        "reservations": index.reservations.at(position),
        "quarantine": index.quarantine.at(position),
    }


def replayed_state(ledger: Ledger) -> dict[str, object]:
    claims = {}
    for address, (claim, revision) in ledger.claims.items():
        endpoint = ledger.endpoints[claim.namespace, claim.pod]
        (nic,) = (nic for nic in endpoint.nics if address in dict(nic.addresses()))
        pod = f"{claim.namespace}/{claim.pod}"
        claims[address] = (claim.pool, pod, endpoint.node, nic.interface, revision)
    return {
        "claims": claims,
        "pools": ledger.pools,
        "subnets": ledger.subnets,
        "reservations": ledger.reservations,
        "quarantine": ledger.quarantine,
    }


async def test_the_index_equals_the_replayed_state_at_every_position(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute(ACTIONS[:7])
    await archived_cluster.seal(file_bytes_max=1_000)
    await archived_cluster.execute(ACTIONS[7:])
    view = await archived_cluster.view()
    index = LogIndex(empty_snapshot())
    await index.read(view)
    assert index.position == (await archived_cluster.replayed())[-1].position
    for position in range(view.revision + 1):
        assert indexed_state(index, position) == replayed_state(
            await as_of_position(view, position)
        ), position


@hypothesis_settings(max_examples=10)
@given(action_lists)
async def test_an_index_that_starts_from_a_snapshot_equals_the_replayed_state(
    actions: list[Action],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with a_cluster(Path(directory)) as cluster:
            await cluster.execute(actions[: len(actions) // 2])
            await cluster.seal()
            await cluster.execute(actions[len(actions) // 2 :])
            view = await cluster.view()
            base = view.sealed.snapshot_up_to(view.sealed.cursor.position)
            begin = base.ledger.position
            index = LogIndex(base)
            await index.read(view)
            for position in range(begin, view.revision + 1, 3):
                assert indexed_state(index, position) == replayed_state(
                    await as_of_position(view, position)
                )


async def test_a_position_before_the_index_window_is_read_from_the_archive(
    archived_cluster: ArchivedCluster,
) -> None:
    store, files = archived_cluster.store, archived_cluster.files
    await archived_cluster.execute(ACTIONS)
    await archived_cluster.seal(file_bytes_max=500)
    log = IndexedLog(store, TEST_KEYS, files, window_events_max=3)
    view = await archived_cluster.view()
    newest = await log.newest()
    assert 0 < newest.first_position < newest.position
    for position in (0, 5, newest.first_position - 1, newest.position, view.revision):
        instant = await log.at_position(position)
        assert indexed_state(instant.log, position) == replayed_state(
            await as_of_position(view, position)
        )
        if instant.time_ms:
            await _check_state_at_time(log, archived_cluster, instant.time_ms)
    assert len(log._old) <= OLD_WINDOWS_MAX, "too many old windows are kept"


async def test_a_time_at_the_end_of_an_archive_file_is_found(
    archived_cluster: ArchivedCluster,
) -> None:
    ticks = count(unix_ms(), 1_000)
    archived_cluster.now_ms = lambda: next(ticks)
    await archived_cluster.execute(ACTIONS)
    await archived_cluster.seal(file_bytes_max=500)
    log = IndexedLog(
        archived_cluster.store,
        TEST_KEYS,
        archived_cluster.files,
        now_ms=archived_cluster.now_ms,
        window_events_max=3,
    )
    begin = (await log.newest()).first_position
    files = [file for file in log.view.sealed.summaries() if file.last_position <= begin]
    assert len(files) > 2
    for file, following in pairwise(files):
        await log.at_position(file.first_position)
        await _check_state_at_time(log, archived_cluster, following.clock_ms - 1)
        await log.at_position(file.first_position)
        await _check_state_at_time(log, archived_cluster, following.clock_ms)


async def test_a_time_before_1970_gives_position_0(
    archived_cluster: ArchivedCluster,
) -> None:
    log = IndexedLog(archived_cluster.store, TEST_KEYS, archived_cluster.files)
    instant = await log.at_time(-1)
    assert (instant.position, instant.time_ms) == (0, 0)


async def _check_state_at_time(log: IndexedLog, cluster: ArchivedCluster, time_ms: int) -> None:
    instant: LogInstant = await log.at_time(time_ms)
    ledger = await as_of_time(await cluster.view(), time_ms)
    assert instant.position == ledger.position
    assert indexed_state(instant.log, instant.position) == replayed_state(ledger)


async def test_a_query_for_a_new_position_reads_the_new_events(
    archived_cluster: ArchivedCluster,
) -> None:
    log = IndexedLog(archived_cluster.store, TEST_KEYS, LocalFiles(archived_cluster.directory))
    before = (await log.now()).position
    await archived_cluster.execute([CniAdd("node-a", "late")])
    revision = (await archived_cluster.view()).revision
    after = (await log.at_position(revision)).log
    assert after.position > before
    assert list(after.table("main").pods.rows_with("late", 9))


async def test_the_error_of_a_position_after_the_log_names_the_last_one_that_is_accepted(
    archived_cluster: ArchivedCluster,
) -> None:
    log = IndexedLog(archived_cluster.store, TEST_KEYS, archived_cluster.files)
    # The revision of etcd also counts writes that are not events.
    written = await archived_cluster.store.commit([], [Put(b"elsewhere", b"")])

    with pytest.raises(BadInput, match=f"it has reached {written.revision}") as refused:
        await log.at_position(written.revision + 1)

    assert refused.value.remedy == f"name a position from 0 to {written.revision}"
    assert (await log.at_position(written.revision)).position == written.revision


async def test_a_query_waits_for_a_position_that_is_still_being_read(
    archived_cluster: ArchivedCluster,
) -> None:
    log = IndexedLog(SlowStore(archived_cluster.store), TEST_KEYS, archived_cluster.files)
    await log.newest()
    log._read_at = float("inf")  # ``newest`` reads no new events
    await archived_cluster.execute([CniAdd("node-a", "late")])
    revision = (await archived_cluster.view()).revision
    first_query = asyncio.create_task(log.at_position(revision))
    while log.view.revision < revision and not first_query.done():
        await asyncio.sleep(0)
    second_instant = await log.at_position(revision)
    assert list(second_instant.log.table("main").pods.rows_with("late", 9))
    await first_query


class SlowStore(FaultyStore):
    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        for _ in range(EVENT_LOOP_TURNS_PER_READ):
            await asyncio.sleep(0)
        return await super().read(gets, revision=revision)


async def test_past_positions_are_readable_while_etcd_is_unavailable(
    archived_cluster: ArchivedCluster,
) -> None:
    store = FaultyStore(archived_cluster.store)
    log = IndexedLog(store, TEST_KEYS, archived_cluster.files)
    now = await log.now()
    store.is_unavailable = True
    position = now.position - 1
    past = await log.at_position(position)
    assert indexed_state(past.log, position) == replayed_state(
        await as_of_position(await archived_cluster.view(), position)
    )
    before = await log.at_time(past.time_ms - 1)
    assert before.position < position
    with pytest.raises(StoreUnavailable):  # newer events are only in etcd
        await log.at_position(now.position + 1_000)


async def test_a_new_window_is_used_only_after_it_was_read_completely(
    archived_cluster: ArchivedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.audit.indexed_log.LIVE_EVENTS_MAX", 0)
    store = StoreWithLimitedReads(archived_cluster.store)
    await archived_cluster.execute(ACTIONS)
    log = IndexedLog(store, TEST_KEYS, archived_cluster.files, window_events_max=3)
    now = await log.now()
    await archived_cluster.execute([CniAdd("node-a", "late")])
    store.reads_left = STORE_READS_TO_OPEN_A_VIEW
    with pytest.raises(StoreUnavailable):
        await log.at_position(now.position + 1)
    past = await log.at_position(now.position)
    assert indexed_state(past.log, now.position) == indexed_state(now.log, now.position)

    store.reads_left = sys.maxsize
    later = await log.at_position(now.position + 1)
    assert later.log is not now.log
    assert list(later.log.table("main").pods.rows_with("late", 9))


async def test_an_index_that_ends_in_the_pruned_part_of_the_log_is_replaced(
    archived_cluster: ArchivedCluster,
) -> None:
    store, files = archived_cluster.store, archived_cluster.files
    await archived_cluster.execute(ACTIONS[:4])
    log = IndexedLog(store, TEST_KEYS, files)
    before = await log.now()
    await archived_cluster.execute(ACTIONS[4:])
    await archived_cluster.seal(file_bytes_max=500)
    pruned = await Pruner(store, TEST_KEYS, files).prune(Retention(), unix_ms(), files=99)
    assert pruned.position > before.position
    view = await archived_cluster.view()

    after = await log.at_position(view.revision)

    assert indexed_state(after.log, view.revision) == replayed_state(
        await as_of_position(view, view.revision)
    )


class StoreWithLimitedReads(FaultyStore):
    reads_left = sys.maxsize

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads_left -= 1
        self.is_unavailable = self.reads_left < 0
        return await super().read(gets, revision=revision)


async def test_claims_are_found_by_pod_name_and_by_trace(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        await fill(cluster.store, TEST_KEYS, Shape(events=60, per_segment=4, held=20))
        index = LogIndex(empty_snapshot())
        await index.read(await cluster.view())
    table = index.table("big")
    rows = table.pods.rows_with("web-7-", rows_max=9)
    assert [table.pods[row] for row in rows] == ["shop-0/web-7-7"]
    # ``fill`` writes the claim of web-27-27 in the segment with trace 57.
    assert [table.pods[row] for row in table.rows_with_trace(57)][:1] == ["shop-4/web-27-27"]
    assert list(table.rows_with_mac(1)) == []  # the claims have no MAC addresses
    assert column_bytes(index) < 30_000  # 500 bytes an event


def test_a_text_search_does_not_match_across_two_rows() -> None:
    column = TextColumn()
    for text in ("shop/ab", "cd/shop", "shop/cd"):
        column.append(text)
    assert list(column.rows_with("bc", rows_max=9)) == []
    assert list(column.rows_with("shop", rows_max=9)) == [2, 1, 0]
    assert list(column.rows_with("shop", rows_max=1)) == [2]
    assert column[1] == "cd/shop"


def test_a_position_before_the_clock_base_has_time_0() -> None:
    clock = LogClock(base_position=10, base_ms=5_000)
    clock.append(12, 6_000, 1)
    assert [clock.time_of(position) for position in (9, 10, 11, 12)] == [0, 5_000, 5_000, 6_000]


def test_density_counts_every_event_in_exactly_one_bucket() -> None:
    clock = LogClock()
    for number in range(10):
        clock.append(10 * number + 1, 1_000 + 100 * number, number + 1)
    density = clock.density(4)
    # A bucket is 225 ms long. Segment n has n events and the time 900 + 100 n ms.
    assert [bucket.events for bucket in density] == [1 + 2 + 3, 4 + 5, 6 + 7, 8 + 9 + 10]
    assert sum(bucket.events for bucket in density) == clock.events
    assert density[0].begin_ms == 1_000
    assert [clock.position_at(bucket.begin_ms - 1) for bucket in density] == [
        bucket.position for bucket in density
    ]
