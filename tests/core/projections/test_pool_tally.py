"""The counters of a projection equal a count of the ledger's addresses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given

from core.domain.addresses.address_set import AddressSet, Interval
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.commands import ApplyReservation
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.domain.model import Pool, Reservation
from core.eventstore.memory_store import MemoryStore
from core.projections.change_buffer import ChangeBuffer
from core.projections.pool_tally import PoolCounts, PoolTally
from core.projections.projection import Projection
from tests.core.projections.histories import LAST_OCTETS, Step, address_in, histories, log_of
from tests.support import node_harness


@given(histories)
def test_projections_of_a_ledger_and_of_its_events_are_equal(history: list[Step]) -> None:
    log = log_of(history)
    from_events = Projection().apply_all(log)
    from_ledger = Projection(Ledger().apply_all(log))

    assert from_ledger.tallies.keys() == from_events.tallies.keys()
    for name in from_ledger.tallies:
        assert from_ledger.tallies[name].counts == from_events.tallies[name].counts
        assert list(from_ledger.tallies[name].free) == list(from_events.tallies[name].free)
    for pool in ("blue", "green", "six"):
        assert from_ledger.addresses_in(pool) == from_events.addresses_in(pool)


@given(histories)
def test_the_counters_equal_a_count_of_every_address(history: list[Step]) -> None:
    log = log_of(history)
    projection = Projection().apply_all(log)

    for name, pool in projection.ledger.pools.items():
        expected, free = _count_addresses(projection.ledger, pool)
        tally = projection.tallies[name]
        assert tally.counts == expected
        assert tuple(tally.free) == free.intervals


@given(histories)
def test_followers_receive_the_name_of_each_changed_pool(history: list[Step]) -> None:
    projection, changes = Projection(), ChangeBuffer()
    projection.followers.append(changes)
    for event in log_of(history):
        before = _pools(projection)
        projection.apply(event)
        after = _pools(projection)
        changed_names = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed_names <= changes.take().pools


def _pools(projection: Projection) -> dict[str, tuple[PoolCounts, tuple[Interval, ...]]]:
    return {name: (tally.counts, tuple(tally.free)) for name, tally in projection.tallies.items()}


def _count_addresses(ledger: Ledger, pool: Pool) -> tuple[PoolCounts, AddressSet]:
    """Return the counts and the free addresses."""
    reserved = AddressSet(pool.family)
    for reservation in ledger.reservations.values():
        if reservation.family == pool.family:
            reserved |= AddressSet.from_items(reservation.ips, pool.family)
    claimed = {ip for ip, revised in ledger.claims.items() if revised.claim.pool == pool.name}
    all_addresses = [
        text
        for text in (address_in(pool.name, octet) for octet in LAST_OCTETS)
        if parse_address(text).value in pool_addresses(pool)
    ]
    reserved_addresses = [text for text in all_addresses if parse_address(text).value in reserved]
    quarantined = [
        text
        for text in all_addresses
        if text in ledger.quarantine and text not in reserved_addresses
    ]
    free = [
        text for text in all_addresses if text not in {*reserved_addresses, *quarantined, *claimed}
    ]
    counts = PoolCounts(
        total=len(all_addresses),
        claimed=len(claimed),
        reserved=len(reserved_addresses),
        quarantined=len(quarantined),
        free=len(free),
    )
    return counts, AddressSet.from_items(free, pool.family)


async def test_a_reservation_recounts_only_the_pools_that_have_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked_pools: list[str] = []
    is_changed_by = PoolTally.is_changed_by

    def note_and_check(tally: PoolTally, reservations: Mapping[str, Reservation]) -> bool:
        checked_pools.append(tally.pool.name)
        return is_changed_by(tally, reservations)

    monkeypatch.setattr(PoolTally, "is_changed_by", note_and_check)
    async with node_harness.NodeHarness(MemoryStore()) as node:
        await node.apply(
            *(
                node_harness.pool(f"p-{number}", f"10.6.{number}.1-10.6.{number}.9")
                for number in range(20)
            )
        )
        await node.apply(ApplyReservation(Reservation("dns", 4, ("10.6.3.5",))))
        await node.apply(ApplyReservation(Reservation("dns", 4, ("10.6.4.5",))))

        projection = Projection().apply_all(await node.log())

    # The second ApplyReservation moves the reservation from p-3 to p-4.
    assert checked_pools == ["p-3", "p-3", "p-4"]
    assert [projection.tallies[f"p-{number}"].counts.reserved for number in (3, 4, 5)] == [0, 1, 0]
