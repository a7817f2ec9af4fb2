"""GUIDs are unique in the cluster and equal in log and state keys."""

from __future__ import annotations

import asyncio

import pytest

from core.allocation.guid_registry import GUIDS_IN_TRANSACTION_MAX, GuidRegistry
from core.archive.snapshot import ArchiveSnapshot, decode_snapshot, encode_snapshot
from core.audit.state_check import compare, read_state
from core.domain.events import Cause
from core.domain.evolution import Ledger
from core.domain.sriov.model import GuidClaim, VfGuid
from core.errors import LogCorrupt
from core.eventstore.codec import decode_segment
from core.eventstore.kv import Absent, Get, Put
from core.eventstore.state_reader import read_ledger
from core.eventstore.writer import Writer
from tests.core.eventstore.writer_harness import WriterHarness


def guids(count: int, first: int = 1, nic_guid: str = "10:70:fd:03:00:16:05:48") -> list[VfGuid]:
    """Return consecutive GUIDs for the first virtual functions of a NIC."""
    return [
        VfGuid(
            guid=(0x0200 << 48 | first + vf).to_bytes(8, "big").hex(":"),
            nic="3b:00.0",
            nic_guid=nic_guid,
            vf=vf,
        )
        for vf in range(count)
    ]


class Nodes:
    """The GUID registries of several nodes on one store."""

    def __init__(self) -> None:
        self.harness = WriterHarness()
        self.writers: list[Writer] = []

    async def start_node(self, name: str) -> GuidRegistry:
        writer = self.harness.new_writer(name)
        await writer.open()
        self.writers.append(writer)
        cause = Cause(f"agent/{name}")
        return GuidRegistry(self.harness.store, self.harness.keys, writer, name, cause)

    async def checked_ledger(self) -> Ledger:
        """Return the fold of the log; assert that the state keys and a snapshot agree."""
        keys, memory = self.harness.keys, self.harness.memory
        log = (await memory.read([Get(*keys.range_of("log"))])).ranges[0].kvs
        ledger = Ledger()
        for kv in sorted(log, key=lambda kv: kv.mod_revision):
            writer, _ = keys.check_segment(kv.key)
            ledger.apply_all(decode_segment(kv.value, writer=writer, position=kv.mod_revision))
        assert compare(ledger, await read_state(memory, keys, 0), keys) == []
        assert (await read_ledger(memory, keys)).guids == ledger.guids
        snapshot = encode_snapshot(ArchiveSnapshot(ledger, {}, chain=b"", clock_ms=0))
        assert decode_snapshot(snapshot, name="one").ledger.guids == ledger.guids
        return ledger

    def transactions(self) -> int:
        return sum(writer.transactions for writer in self.writers)


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


async def test_a_restarted_node_does_not_assign_its_guids_again(nodes: Nodes) -> None:
    requested = guids(GUIDS_IN_TRANSACTION_MAX + 2)
    assert await (await nodes.start_node("node-1")).assign(requested) == []
    restarted = await nodes.start_node("node-1")
    assert await restarted.assign(requested) == []

    assert nodes.transactions() == 2, "expected 2 transactions before the restart and none after"
    assert await restarted.held() == tuple(requested)
    assert (await nodes.checked_ledger()).guids == {
        guid.guid: GuidClaim("node-1", *guid[1:]) for guid in requested
    }


async def test_a_guid_of_another_node_is_not_assigned(nodes: Nodes) -> None:
    await (await nodes.start_node("node-1")).assign(guids(2))
    other = await nodes.start_node("node-2")
    requested = guids(3, nic_guid="10:70:fd:03:00:99:99:99")

    conflicts = await other.assign(requested)

    assert [conflict.requested.vf for conflict in conflicts] == [0, 1]
    assert {conflict.holder.node for conflict in conflicts} == {"node-1"}
    assert await other.held() == (requested[2],)
    await nodes.checked_ledger()


async def test_released_guids_can_be_assigned_on_another_node(nodes: Nodes) -> None:
    first_node, second_node = await nodes.start_node("node-1"), await nodes.start_node("node-2")
    assigned = guids(2)
    await first_node.assign(assigned)

    await first_node.release([(assigned[0], "removed"), (assigned[1], "replaced")])
    await first_node.release([(assigned[0], "removed")])

    assert await first_node.held() == ()
    assert await second_node.assign(guids(2, nic_guid="10:70:fd:03:00:99:99:99")) == []
    assert {claim.node for claim in (await nodes.checked_ledger()).guids.values()} == {"node-2"}


async def test_a_nic_that_is_moved_to_another_node_keeps_its_guids(nodes: Nodes) -> None:
    first_node, second_node = await nodes.start_node("node-1"), await nodes.start_node("node-2")
    await first_node.assign(guids(3))

    assert await second_node.assign(guids(2)) == []
    await first_node.release([(guids(1)[0], "removed")])  # a late release by the former node

    assert await second_node.held() == tuple(guids(2))
    assert await first_node.held() == (guids(3)[2],)
    await nodes.checked_ledger()


async def test_only_one_of_two_concurrent_nodes_gets_the_guids(nodes: Nodes) -> None:
    first_node, second_node = await nodes.start_node("node-1"), await nodes.start_node("node-2")

    conflicts = await asyncio.gather(
        first_node.assign(guids(4)),
        second_node.assign(guids(4, nic_guid="10:70:fd:03:00:99:99:99")),
    )

    assert sorted(map(len, conflicts)) == [0, 4]
    await nodes.checked_ledger()


async def test_a_guid_whose_claim_cannot_be_decoded_is_not_assigned(nodes: Nodes) -> None:
    (requested,) = guids(1)
    node = await nodes.start_node("node-1")
    key = nodes.harness.keys.guid(requested.guid)
    await nodes.harness.store.commit([Absent(key)], [Put(key, b"?")])

    with pytest.raises(LogCorrupt, match="guid/0200000000000001"):
        await node.assign([requested])
