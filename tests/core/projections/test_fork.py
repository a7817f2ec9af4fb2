"""A fork applies commands to a copy of the state, and returns what they would change."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.configuration.commands import (
    ApplyPool,
    ApplyReservation,
    Command,
    DeletePool,
    DeleteReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.events import Event
from core.domain.model import Reservation
from core.errors import Refused
from core.eventstore.memory_store import MemoryStore
from core.eventstore.state_reader import read_ledger
from core.projections.fork import Fork
from core.projections.projection import Projection
from tests.core.projections.histories import (
    address_ranges,
    addresses,
    pool_definitions,
    pool_names,
    reservations,
)
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool

commands: st.SearchStrategy[Command] = st.one_of(
    pool_definitions().map(ApplyPool),
    pool_names.map(RetirePool),
    pool_names.map(DeletePool),
    reservations().map(ApplyReservation),
    st.sampled_from(("printers", "gateways")).map(DeleteReservation),
    st.builds(QuarantineAddress, addresses, st.just("seen")),
    st.builds(LiftQuarantine, addresses),
    st.builds(lambda ips: ApplyReservation(Reservation("wide", 4, ips)), address_ranges("blue")),
)


@settings(max_examples=40)
@given(st.lists(commands, min_size=1, max_size=8))
async def test_a_command_has_the_same_result_on_a_fork_and_the_store(
    applied_commands: list[Command],
) -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("blue", "10.0.0.0-10.0.0.9", subnet="10.0.0.0/28"))
        await node.add(pod("web-0"))
        await node.add(pod("web-1"))
        fork = Fork(await node.read_ledger())
        for command in applied_commands:
            dry_run = fork.apply(command)
            refusals: tuple[object, ...] = ()
            events: tuple[Event, ...] = ()
            try:
                events = (await node.configurator.apply(command, TEST_CAUSE)).events
            except Refused as error:
                refusals = error.refusals
            assert (dry_run.events, dry_run.refusals) == (events, refusals)
        projection = Projection(await node.read_ledger())
    counts_of_changed_pools = {effect.name: effect.after for effect in fork.effects()}
    for name, tally in projection.tallies.items():
        if name in counts_of_changed_pools:
            assert counts_of_changed_pools[name] == tally.counts


async def fork_with_a_full_pool() -> Fork:
    """A fork in which Pods web-0 and web-1 hold both addresses of pool blue."""
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("blue", "10.6.0.10-10.6.0.11"))
        await asyncio.gather(node.add(pod("web-0")), node.add(pod("web-1")))
        return Fork(await read_ledger(node.store, node.keys))


async def test_a_refused_shrink_names_the_holders_that_prevent_it() -> None:
    fork = await fork_with_a_full_pool()

    dry_run = fork.apply(ApplyPool(pool("blue", "10.6.0.11")))

    assert [holder.address for holder in dry_run.blocking] == ["10.6.0.10"]
    assert dry_run.refusals[0].rule == "address-in-use"
    assert fork.effects() == []


async def test_holders_are_affected_when_their_pool_gets_a_gateway() -> None:
    fork = await fork_with_a_full_pool()

    fork.apply(ApplyPool(pool("blue", "10.6.0.10-10.6.0.11")._replace(gateway="10.6.0.1")))

    affected_holders = list(fork.affected_holders())
    assert {holder.pod for holder in affected_holders} == {"web-0", "web-1"}
    assert {holder.why for holder in affected_holders} == {
        "keeps no gateway until its Pod is created again"
    }


async def test_holders_are_affected_when_their_addresses_are_reserved_or_quarantined() -> None:
    fork = await fork_with_a_full_pool()

    fork.apply(ApplyReservation(Reservation("printers", 4, ("10.6.0.10",))))
    fork.apply(QuarantineAddress("10.6.0.11", reason="seen"))

    assert {(holder.address, holder.why.split()[0]) for holder in fork.affected_holders()} == {
        ("10.6.0.10", "reserved:"),
        ("10.6.0.11", "quarantined"),
    }
