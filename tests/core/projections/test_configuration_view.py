"""The configuration view follows all changes, and reports values that cannot be decoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgpack
import pytest

from core.domain.configuration.commands import (
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    ApplySubnet,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    DeleteSubnet,
    LiftQuarantine,
    QuarantineAddress,
    RetireSubnet,
)
from core.domain.events import RecordDefined
from core.domain.model import Reservation, Subnet
from core.errors import AllocationError, LogCorrupt, StoreRejected
from core.eventstore.kv import Delete, IsWhole, Put, WatchBatch
from core.eventstore.memory_store import MemoryStore
from core.projections import configuration_view
from core.projections.configuration_view import ConfigurationView, is_whole_command
from tests.support.deadlines import until
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool

POOL_B_ANNOTATION = {"ipam.spidernet.io/ippool": '{"ipv4": ["b"]}'}


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeHarness]:
    monkeypatch.setattr(configuration_view, "RELOAD_PAUSE_S", 0)
    async with NodeHarness(MemoryStore()) as node:
        yield node


async def test_each_command_writes_objects_and_guards_in_one_transaction(node: NodeHarness) -> None:
    """Every command about a topic also writes the guard key of the topic."""
    lan, wide = Subnet("lan", 4, "10.6.0.0/16", ("10.6.0.1-10.6.0.99",)), pool("wide", "fd00:6::1")
    commands = (
        ApplyPool(pool("a", "10.6.0.1-10.6.0.9")),
        ApplySubnet(lan),
        ApplyPool(wide),
        ApplyReservation(Reservation("dns", 4, ("10.6.0.1",))),
        QuarantineAddress("10.6.0.2", reason="a printer has it"),
        LiftQuarantine("10.6.0.2"),
        ApplyRecord(RecordDefined("Node", namespace="", name="node-a")),
        DeleteRecord("Node", namespace="", name="node-a"),
        DeleteReservation("dns"),
        RetireSubnet("lan"),
        DeletePool("a"),
        DeleteSubnet("lan"),
    )
    for command in commands:
        assert (await node.configurator.apply(command, TEST_CAUSE)).events, command

    ranges = [node.keys.range_of(prefix) for prefix in configuration_view.PREFIXES]
    batch_count = 0
    async for batch in node.store.watch(ranges, after=0):
        if not batch.changes:
            break
        batch_count += 1
        assert is_whole_command(node.keys, batch.changes)
        for prefix in {node.keys.prefix_of(change.key) for change in batch.changes}:
            incomplete_changes = [
                change for change in batch.changes if node.keys.prefix_of(change.key) != prefix
            ]
            assert not is_whole_command(node.keys, incomplete_changes)
    assert batch_count == len(commands), "expected one transaction for each command"


async def test_the_view_reports_an_undecodable_value_and_uses_the_other_values(
    node: NodeHarness,
) -> None:
    key = node.keys.pool("strange")
    await node.store.commit([], [Put(key, b"of a version to come")])
    await until(lambda: bool(node.view.current.undecodable))
    await node.apply(pool("a", "10.6.0.1"))

    assert node.view.ready
    assert list(node.view.current.pools) == ["a"]
    assert list(node.view.current.undecodable) == ["pool/strange"]
    assert "pool/strange cannot be decoded" in node.view.current.catalog.unreadable["strange"]

    await node.store.commit([], [Delete(key)])
    await until(lambda: not node.view.current.undecodable)

    assert node.view.ready


@pytest.mark.parametrize("name", ["record/oops", "reservation/ghost", "guard/x", "pool/\xff/y"])
async def test_a_running_view_and_a_new_view_work_despite_an_undecodable_key(
    node: NodeHarness, name: str
) -> None:
    await node.store.commit([], [Put(node.keys.root + name.encode("latin-1"), b"\x00oops")])
    await until(lambda: bool(node.view.current.undecodable))
    await node.apply(pool("a", "10.6.0.1-10.6.0.9"))
    new_view = ConfigurationView(node.store, node.keys)
    await new_view.start()
    await new_view.close()

    for snapshot in (node.view.current, new_view.current):
        assert list(snapshot.pools) == ["a"]
        assert len(snapshot.undecodable) == 1
        assert snapshot.usable("a").size == 9
    assert (await node.add(pod("web-0"))).endpoint.nics[0].ipv4


async def test_a_running_view_keeps_a_reservation_that_a_new_view_cannot_decode(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.1-10.6.0.9"))
    await node.apply(ApplyReservation(Reservation("dns", 4, ("10.6.0.1-10.6.0.5",))))
    await node.store.commit([], [Put(node.keys.reservation("dns"), b"\xc1")])
    await until(lambda: bool(node.view.current.undecodable))
    new_view = ConfigurationView(node.store, node.keys)
    await new_view.start()
    await new_view.close()

    assert node.view.current.usable("a").size == 4  # 5 of the 9 addresses are still reserved
    with pytest.raises(LogCorrupt, match="reservation/dns cannot be decoded"):
        new_view.current.usable("a")


async def test_no_pool_allocates_until_a_reservation_of_a_newer_version_is_deleted(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.1-10.6.0.9"))
    added = await node.add(pod("web-0"))
    key, guard = node.keys.reservation("dns"), node.keys.guard("reservations", 4)
    value_of_version_2 = msgpack.packb([2, {"name": "dns"}])
    await node.store.commit([], [Put(key, value_of_version_2), Put(guard, b"")])
    await until(lambda: bool(node.view.current.unknown_reservations))

    with pytest.raises(AllocationError, match="version 2 is unknown"):
        await node.add(pod("web-1"))
    assert (await node.add(pod("web-0"))).endpoint == added.endpoint
    await node.delete(pod("web-0"))

    await node.apply(ApplyReservation(Reservation("other", 4, ips=())))
    assert node.view.current.unknown_reservations
    await node.store.commit([], [Delete(key), Put(guard, b"")])
    await until(lambda: not node.view.current.unknown_reservations)
    assert (await node.add(pod("web-1"))).endpoint.nics[0].ipv4


async def test_an_address_is_not_allocated_if_its_quarantine_cannot_be_decoded(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.1-10.6.0.2"))
    await node.store.commit([], [Put(node.keys.quarantine_of("10.6.0.1"), b"\xff")])
    await until(lambda: bool(node.view.current.undecodable))

    assert str((await node.add(pod("web-0"))).endpoint.nics[0].ipv4).startswith("10.6.0.2/")
    with pytest.raises(AllocationError):
        await node.add(pod("web-1"))


async def test_only_decodable_pools_allocate_addresses(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.1-10.6.0.9"))
    await node.apply(pool("b", "10.6.1.1-10.6.1.9", default=False))
    await node.store.commit([], [Put(node.keys.pool("b"), b"\x92\x01\xa3\xff\xfe\xfd")])
    await until(lambda: bool(node.view.current.undecodable))

    with pytest.raises(AllocationError, match="pool pool/b cannot be decoded"):
        await node.add(pod("web-0", annotations=POOL_B_ANNOTATION))
    assert (await node.add(pod("web-1"))).endpoint.nics[0].ipv4_pool == "a"


async def test_a_refused_watch_is_opened_again(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_count = 0
    watch = node.store.watch

    async def watch_refused_once(
        ranges: Sequence[tuple[bytes, bytes]], *, after: int, is_whole: IsWhole | None = None
    ) -> AsyncIterator[WatchBatch]:
        nonlocal watch_count
        watch_count += 1
        if watch_count == 1:
            raise StoreRejected("the role was taken away")
        async for batch in watch(ranges, after=after, is_whole=is_whole):
            yield batch

    monkeypatch.setattr(node.store, "watch", watch_refused_once)
    await node.view.close()
    await node.view.start()
    await until(lambda: watch_count == 2)
    await node.apply(pool("a", "10.6.0.1"))

    assert node.view.ready
    assert list(node.view.current.pools) == ["a"]
