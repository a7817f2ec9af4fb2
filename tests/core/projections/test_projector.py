"""The projector follows the log, and rebuilds the projection if unread segments have left etcd."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.configuration.commands import ApplyReservation, QuarantineAddress, RetirePool
from core.domain.model import Reservation
from core.eventstore.kv import Delete
from core.eventstore.memory_store import MemoryStore
from core.projections.projection import Projection
from core.projections.projector import NO_LAG, Projector
from tests.core.projections.running_projector import run_new_projector, run_projector
from tests.support.node_harness import NodeHarness, pod, pool

POOL = pool("blue", "10.6.0.10-10.6.0.19")
IPV6_POOL = pool("six", "fd00:6::1-fd00:6::9")
ACTIONS_MAX = 7
"""Less than the size of each pool: an action takes at most one address from a pool."""


async def test_claims_made_before_the_projector_started_are_counted(node: NodeHarness) -> None:
    await node.apply(POOL, IPV6_POOL)
    await node.add(pod("web-0"))

    async with run_new_projector(node) as running:
        counts = running.projector.projection.tallies["blue"].counts

    assert (counts.total, counts.claimed, counts.free) == (10, 1, 9)


async def test_claims_and_releases_are_applied_while_the_projector_runs(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        added = await node.add(pod("web-0"))
        await running.wait_until_current(node)
        projection = running.projector.projection
        (address, _), *_ = added.endpoint.addresses()
        assert set(projection.ledger.endpoints) == {("shop", "web-0")}
        assert projection.addresses_in("blue") == [address]

        await node.delete(pod("web-0"))
        await running.wait_until_current(node)
        assert projection.addresses_in("blue") == []
        assert not projection.ledger.endpoints


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(("add", "add", "delete", "reserve", "quarantine", "retire")),
        max_size=ACTIONS_MAX,
    )
)
async def test_a_projection_that_follows_the_log_equals_a_rebuilt_projection(
    actions: list[str],
) -> None:
    async with NodeHarness(MemoryStore(), cool_down_s=0) as node:
        await node.apply(POOL, IPV6_POOL)
        async with run_new_projector(node) as running:
            for number, action in enumerate(actions):
                await _execute(node, action, number)
            await running.wait_until_current(node)
            rebuilt = Projection(await node.read_ledger())
            followed = running.projector.projection
            assert followed.ledger.claims == rebuilt.ledger.claims
            for name in ("blue", "six"):
                followed_tally, rebuilt_tally = followed.tallies[name], rebuilt.tallies[name]
                assert followed_tally.counts == rebuilt_tally.counts
                assert list(followed_tally.free) == list(rebuilt_tally.free)
                assert followed.addresses_in(name) == rebuilt.addresses_in(name)


async def _execute(node: NodeHarness, action: str, number: int) -> None:
    if action == "add":
        await node.add(pod(f"web-{number}"))
    elif action == "delete":
        for name in range(number):
            await node.delete(pod(f"web-{name}"))
    elif action == "reserve":
        address = f"10.6.0.{10 + number % 10}"
        await node.apply(ApplyReservation(Reservation("printers", 4, (address,))))
    elif action == "quarantine":
        await node.apply(QuarantineAddress(f"fd00:6::{1 + number % 9:x}", reason="seen"))
    else:
        pools = (await node.read_ledger()).pools
        if not any(pool.retiring for pool in pools.values()):
            await node.apply(RetirePool("blue"), pool("red", "10.6.1.1-10.6.1.40"))


async def test_a_projector_rebuilds_if_unread_segments_have_left_etcd(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        projector = running.projector
    await node.add(pod("web-0"))
    await node.add(pod("web-1"))
    await node.store.commit([], [Delete(*node.keys.range_of("log"))])
    await node.store.compact((await node.read_ledger()).position)
    rebuilds_before = projector.rebuilds

    async with run_projector(projector) as running:
        await running.wait_until_current(node)
        counts = projector.projection.tallies["blue"].counts

    assert projector.rebuilds == rebuilds_before + 1
    assert counts.claimed == 2


async def test_the_projector_continues_from_its_cursor_after_a_pause(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        projector = running.projector
    await node.add(pod("web-0"))

    async with run_projector(projector) as running:
        await running.wait_until_current(node)

    assert projector.rebuilds == 1, "the second start must not rebuild"
    assert len(projector.projection.ledger.claims) == 1


async def test_the_lag_is_the_number_of_unread_segments(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        await running.wait_until_current(node)
        assert await running.projector.measure_lag() == NO_LAG
        projector = running.projector
    await node.add(pod("web-0"))
    await node.add(pod("web-1"))

    assert (await projector.measure_lag()).segments == 2


async def test_a_projector_lags_by_the_whole_log_before_it_starts(node: NodeHarness) -> None:
    await node.apply(POOL)  # one segment

    assert (await Projector(node.store, node.keys).measure_lag()).segments == 1
