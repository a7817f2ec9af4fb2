"""The agent writes the GUIDs of virtual functions to the event log before it sets them.

GUIDs come from the GUID file, or are derived from the card's GUID.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.domain.sriov.guid_file import GuidFile, parse_guid_file
from core.domain.sriov.model import VFIO, NicName, NicSelector, NodePolicy
from core.domain.sriov.vf_macs_and_guids import default_mac
from core.settings.sriov import SriovSettings
from nodeagent.sriov.node_hardware import read_guid_file
from nodeagent.sriov.reconciler import SriovReconciler
from tests.nodeagent.sriov.cards import Card, CardHardware
from tests.nodeagent.sriov.fake_policy_source import FakePolicySource
from tests.nodeagent.sriov.guid_log import GuidLog

CARD_ADDRESS = "0000:3b:00.0"
FIRST, SECOND, THIRD = (f"02:00:00:00:00:00:00:0{number}" for number in (1, 2, 3))


class InfinibandNode:
    """A node with one InfiniBand card, and a policy for two virtual functions."""

    def __init__(self, directory: Path, log: GuidLog, name: str, card_guid: str = "") -> None:
        self.card = Card(directory / name, "connectx-infiniband")
        if card_guid:
            address = self.card.path / "net/ibs1/address"
            address.write_text(f"00:00:10:49:fe:80:00:00:00:00:00:00:{card_guid}\n")
        self.source = FakePolicySource()
        self.hardware = CardHardware(self.card)
        self.log, self.name = log, name
        self.restart_agent()
        self.set_policy(2)

    def restart_agent(self) -> None:
        keeper = self.log.keeper(self.name)
        self.reconciler = SriovReconciler(
            SriovSettings(), self.source, self.hardware, keeper, withdrawal_s=0
        )

    def set_policy(self, vfs: int, **fields: object) -> None:
        nics = NicSelector((NicName("ibs1"),))
        policy = NodePolicy(name="ib", resource="ib", vfs=vfs, nics=nics)
        self.source.set_policies(policy._replace(**fields))  # type: ignore[arg-type]

    def vf_guids(self) -> list[str]:
        """On InfiniBand ``mac`` is the GUID."""
        (nic,) = self.card.nics()
        return [vf.mac for vf in nic.vfs]


@pytest.fixture
async def log() -> GuidLog:
    guid_log = GuidLog()
    await guid_log.open()
    return guid_log


@pytest.fixture
def node(tmp_path: Path, log: GuidLog) -> InfinibandNode:
    return InfinibandNode(tmp_path, log, "node-1")


def guid_file(*texts: str) -> GuidFile:
    return parse_guid_file(json.dumps([{"pci_address": CARD_ADDRESS, "guids": texts}]))


def assignment_line(node: str, *texts: str) -> str:
    shown = [f"{text} (virtual function {vf} of {CARD_ADDRESS})" for vf, text in enumerate(texts)]
    return f"guids-assigned node/{node}: {', '.join(shown)}"


async def test_derived_guids_are_assigned_once_even_across_a_reboot(node: InfinibandNode) -> None:
    assert await node.reconciler.run_round()
    (nic,) = node.card.nics()
    node.card.boot()
    node.restart_agent()
    assert await node.reconciler.run_round()

    derived = [default_mac(nic, vf) for vf in range(2)]
    assert node.vf_guids() == derived
    assert await node.log.events() == [assignment_line("node-1", *derived)]


async def test_a_card_in_another_slot_keeps_its_derived_guids(node: InfinibandNode) -> None:
    assert await node.reconciler.run_round()
    before = node.vf_guids()

    node.card.boot_in_slot("0000:5e:00.0")
    node.restart_agent()
    assert await node.reconciler.run_round()

    assert node.vf_guids() == before
    assert [event.split()[0] for event in await node.log.events()] == [
        "guids-assigned",
        "guids-released",
        "guids-assigned",
    ]
    assert (await node.log.events())[1].endswith(", moved")
    assert {guid.nic for guid in await node.log.registry("node-1").held()} == {"0000:5e:00.0"}


async def test_guids_of_the_file_are_set_and_released_with_their_functions(
    node: InfinibandNode,
) -> None:
    node.hardware.guids = guid_file(FIRST, SECOND)
    assert await node.reconciler.run_round()
    assert node.vf_guids() == [FIRST, SECOND]

    node.source.set_policies()
    assert await node.reconciler.run_round()

    assert await node.log.events() == [
        assignment_line("node-1", FIRST, SECOND),
        assignment_line("node-1", FIRST, SECOND).replace("assigned", "released") + ", removed",
    ]


async def test_no_virtual_function_is_created_while_the_log_cannot_be_written(
    node: InfinibandNode,
) -> None:
    node.log.harness.store.is_unavailable = True

    assert not await node.reconciler.run_round()
    early_writes = node.card.writes.copy()
    node.log.harness.store.is_unavailable = False
    assert await node.reconciler.run_round()

    assert early_writes == []
    assert (
        "ibs1: its GUIDs cannot be written to the event log" in node.source.reports[0].result.error
    )
    assert len(node.vf_guids()) == 2

    node.log.harness.store.is_unavailable = True
    assert await node.reconciler.run_round(), "the log already has all GUIDs"


async def test_a_card_that_returns_to_its_node_gets_its_guids_back(
    tmp_path: Path, node: InfinibandNode
) -> None:
    node.hardware.guids = guid_file(FIRST, SECOND)
    other = InfinibandNode(tmp_path, node.log, "node-2")
    other.hardware.guids = node.hardware.guids

    # The card moves from node-1 to node-2 and back.
    for current in (node, other, node):
        current.card.boot()
        assert await current.reconciler.run_round()

    events = await node.log.events()
    assert [event.partition(":")[0] for event in events] == [
        "guids-assigned node/node-1",
        "guids-released node/node-1",
        "guids-assigned node/node-2",
        "guids-released node/node-2",
        "guids-assigned node/node-1",
    ]


async def test_a_guid_of_another_node_is_refused_and_the_error_names_that_node(
    tmp_path: Path, node: InfinibandNode
) -> None:
    node.hardware.guids = guid_file(FIRST, SECOND)
    await node.reconciler.run_round()
    # Another card with the same PCI address.
    other = InfinibandNode(tmp_path, node.log, "node-2", card_guid="10:70:fd:03:00:99:99:99")
    other.hardware.guids = guid_file(SECOND, THIRD)

    assert not await other.reconciler.run_round()
    assert other.vf_guids() == []
    assert other.source.last_report.result.error == (
        f"ibs1: GUID {SECOND} of virtual function 0 belongs to virtual function 1 of {CARD_ADDRESS}"
        " on node node-1; give each virtual function its own GUID in"
        " /etc/sriov-operator/infiniband/guids"
    )

    registry = node.log.registry("node-1")
    await registry.release([(guid, "node-deleted") for guid in await registry.held()])
    assert await other.reconciler.run_round()
    assert other.vf_guids() == [SECOND, THIRD]


async def test_a_new_order_in_the_guid_file_applies_when_virtual_functions_are_recreated(
    node: InfinibandNode,
) -> None:
    node.hardware.guids = guid_file(FIRST, SECOND)
    await node.reconciler.run_round()
    node.hardware.guids = guid_file(SECOND, THIRD, FIRST)
    await node.reconciler.run_round()
    assert node.vf_guids() == [FIRST, SECOND]

    node.set_policy(3)
    assert await node.reconciler.run_round()

    assert node.vf_guids() == [SECOND, THIRD, FIRST]
    events = await node.log.events()
    assert [event.split()[0] for event in events] == [
        "guids-assigned",
        "guids-released",
        "guids-assigned",
    ]


async def test_a_guid_listed_twice_in_the_file_is_refused_for_the_later_function(
    node: InfinibandNode,
) -> None:
    node.hardware.guids = guid_file(FIRST, SECOND)
    await node.reconciler.run_round()
    node.hardware.guids = guid_file(FIRST, SECOND, FIRST)
    node.set_policy(3)

    assert not await node.reconciler.run_round()

    assert node.vf_guids() == [FIRST, SECOND]
    assert f"GUID {FIRST} of virtual function 2 belongs to virtual function 0" in (
        node.source.last_report.result.error
    )


async def test_a_bound_virtual_function_without_a_guid_gets_its_derived_guid(
    node: InfinibandNode,
) -> None:
    node.card.macs.update({0: "00:00:00:00:00:00:00:00", 1: "00:00:00:00:00:00:00:00"})
    node.card.write(node.card.path / "sriov_numvfs", "2")

    assert await node.reconciler.run_round()

    (nic,) = node.card.nics()
    assert node.vf_guids() == [default_mac(nic, vf) for vf in range(2)]


async def test_a_vfio_function_gets_its_guid_back_after_a_plugin_unset_it(
    node: InfinibandNode,
) -> None:
    node.set_policy(2, device_type=VFIO)
    assert await node.reconciler.run_round()
    before = node.vf_guids()
    node.card.macs[1] = "ff:ff:ff:ff:ff:ff:ff:ff"
    node.restart_agent()

    assert await node.reconciler.run_round()

    assert node.vf_guids() == before
    assert len(await node.log.events()) == 1


def test_read_guid_file_returns_the_guids_or_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "guids"
    assert read_guid_file(path) == GuidFile()

    path.write_text(json.dumps([{"pci_address": CARD_ADDRESS, "guids": [FIRST]}]))
    assert read_guid_file(path) == guid_file(FIRST)

    assert "Is a directory" in read_guid_file(tmp_path).fault
