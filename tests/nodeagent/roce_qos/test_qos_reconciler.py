"""The RoCE QoS reconciler applies the settings of the rules once, and again after drift."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from errno import EBUSY, EPERM
from pathlib import Path

import pytest

from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.domain.roce_qos.qos_plan import QosChange
from nodeagent.roce_qos.qos_files import RDMA_CM, QosFiles
from nodeagent.roce_qos.qos_reconciler import (
    ALL_NICS,
    HOLD_ROUNDS,
    REPEATS_MAX,
    QosReconciler,
)
from nodeagent.roce_qos.roce_nics import RoceNics
from nodeagent.sriov.sysfs import Sysfs
from tests.nodeagent.devices.sys_tree import SysTree
from tests.nodeagent.rdma.scripted_kernel import Device, Kernel, Port
from tests.nodeagent.roce_qos.dcb_kernel import DcbExecutor, DcbLink

ECN = "class/net/ens1f0/ecn"
TRAFFIC_CLASS = "class/infiniband/{}/tc/1/traffic_class"
TOS = f"{RDMA_CM}/{{}}/ports/1/default_roce_tos"
VF_GUID, PF_GUID = 2, 1


class DriverFiles(Sysfs):
    """A /sys whose traffic class files add a prefix to the written text, as drivers do."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes: list[str] = []

    def write(self, path: Path, text: str) -> None:
        shown = f"Global tclass={text}" if path.name == "traffic_class" else text
        super().write(path, shown)
        self.writes.append(f"{path.relative_to(self.root)} {text}")

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        port = path / "ports/1"
        port.mkdir(parents=True, exist_ok=True)
        for name, text in (("default_roce_tos", "0"), ("default_roce_mode", "IB/RoCE v1")):
            if not (port / name).exists():
                (port / name).write_text(f"{text}\n")


class RoceNode:
    """A node with a ConnectX card (DOCA-OFED), a virtual function, soft RoCE and an IPoIB link.

    The second byte of ``dcb.pfc`` is the mask of the priorities with PFC.
    """

    def __init__(self, root: Path) -> None:
        tree = SysTree(root)
        card = tree.device("0000:3b:00.0")
        tree.link("ens1f0", card, type="1")
        tree.link("ens1f0v0", tree.vf(card, 0, "0000:3b:00.2", "mlx5_core"), type="1")
        tree.link("eth0", None, type="1")
        tree.link("ibs2", None, type="32")
        for point in ("roce_np", "roce_rp"):
            self._make(root / ECN / point / "enable", **{str(number): "0" for number in range(8)})
        self._make(root / ECN / "roce_np", cnp_dscp="48", cnp_802p_prio="7")
        for device in ("mlx5_0", "mlx5_2"):
            self._make((root / TRAFFIC_CLASS.format(device)).parent, traffic_class="")
        (root / RDMA_CM).mkdir(parents=True)
        self.files = DriverFiles(root)
        self.dcb = DcbLink()
        links = {"ens1f0": self.dcb, "ens1f0v0": DcbLink(has_dcb=False)}
        self.executor = DcbExecutor(links | {"eth0": DcbLink(has_dcb=False)})
        self.kernel = Kernel()
        self.kernel.devices[self.executor.own_namespace.identity] = (
            Device("mlx5_0", node_guid=PF_GUID, system_guid=PF_GUID, ports=(Port("ens1f0"),)),
            Device("mlx5_2", node_guid=VF_GUID, system_guid=PF_GUID, ports=(Port("ens1f0v0"),)),
            Device("mlx5_4", node_guid=4, system_guid=4, ports=(Port("ibs2"), Port(""))),
            Device("rxe0", node_guid=5, system_guid=5, ports=(Port("eth0"),)),
        )
        self.labels: dict[str, str] | None = {}

    def reconciler(self, *rules: RoceQosRule) -> QosReconciler:
        hardware = RoceNics(self.executor, QosFiles(self.files), self.kernel.open)
        return QosReconciler(
            rules or (RoceQosRule(RoceQos(), nics=("ens*",)),), self._labels, hardware
        )

    def read(self, path: str, device: str = "") -> str:
        return (self.files.root / path.format(device)).read_text().strip()

    def write(self, path: str, text: str) -> None:
        """Write a file of /sys as another program does: ``DriverFiles`` does not record it."""
        file = self.files.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def _labels(self) -> dict[str, str] | None:
        return self.labels

    @staticmethod
    def _make(directory: Path, **files: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(f"{text}\n")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RoceNode]:
    roce_node = RoceNode(tmp_path)
    yield roce_node
    roce_node.executor.close()


async def test_a_card_gets_the_settings_of_spiderpools_script_once(
    node: RoceNode,
) -> None:
    reconciler = node.reconciler()

    assert await reconciler.run_round()
    writes_before = (len(node.files.writes), node.executor.changes)
    assert await reconciler.run_round()

    assert node.dcb.pfc_priorities == [5]
    assert node.dcb.priorities == {dscp: dscp // 8 for dscp in range(64)}
    for point in ("roce_np", "roce_rp"):
        enabled = [node.read(f"{ECN}/{point}/enable/{number}") for number in range(8)]
        assert enabled == ["0"] * 5 + ["1"] + ["0"] * 2
    assert node.read(f"{ECN}/roce_np/cnp_dscp") == "48"
    assert node.read(f"{ECN}/roce_np/cnp_802p_prio") == "6"
    for device in ("mlx5_0", "mlx5_2"):
        assert node.read(TRAFFIC_CLASS, device) == "Global tclass=160"
        assert node.read(TOS, device) == "160"
        assert node.read(f"{RDMA_CM}/{device}/ports/1/default_roce_mode") == "RoCE v2"
    assert (len(node.files.writes), node.executor.changes) == writes_before
    # 9 changes: PFC, DSCP, CNP priority, 2 for ECN, 2 traffic classes, 2 for RDMA CM.
    assert (reconciler.faults, reconciler.rounds, reconciler.changes) == ({}, 2, 9)
    assert reconciler.gaps_by_nic() == {"ens1f0": 0, "ens1f0v0": 0}


async def test_only_settings_that_another_program_changed_are_set_again(node: RoceNode) -> None:
    reconciler = node.reconciler()
    await reconciler.run_round()
    node.files.writes.clear()

    node.dcb.pfc = bytes((8, 0)) + node.dcb.pfc[2:]
    node.dcb.priorities |= {40: 0}
    node.write(f"{ECN}/roce_np/cnp_dscp", "0")
    await reconciler.run_round()

    assert (node.dcb.pfc_priorities, node.dcb.priorities[40]) == ([5], 5)
    assert node.files.writes == [f"{ECN}/roce_np/cnp_dscp 48"]


async def test_a_failed_change_is_logged_once_and_stops_no_other_change(
    node: RoceNode, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = node.reconciler()
    node.dcb.status = -EBUSY
    caplog.set_level(logging.INFO)

    for _ in range(2):
        await reconciler.run_round()

    assert node.read(TRAFFIC_CLASS, "mlx5_0") == "Global tclass=160"
    assert reconciler.faults_by_nic() == {"ens1f0": 2, "ens1f0v0": 0}
    busy = [record.message for record in caplog.records if "busy" in record.message]
    assert len(busy) == 2
    assert busy[1] == (
        "RoCE QoS is not complete: ens1f0: PFC 5: cannot set PFC of ens1f0: Device or resource busy"
    )

    node.dcb.status = 0
    await reconciler.run_round()

    assert reconciler.faults_by_nic() == {"ens1f0": 0, "ens1f0v0": 0}
    assert caplog.records[-1].message == "RoCE QoS: all settings of the rules are applied"


async def test_a_change_that_is_undone_is_repeated_three_times_and_then_every_hour(
    node: RoceNode,
) -> None:
    reconciler = node.reconciler()
    await reconciler.run_round()
    before = node.executor.changes
    node.dcb.pfc = bytes((8, 0)) + node.dcb.pfc[2:]
    node.dcb.ignores_changes = True

    for _ in range(HOLD_ROUNDS - 1):
        await reconciler.run_round()

    # The first of REPEATS_MAX changes was made before the loop.
    assert node.executor.changes == before + REPEATS_MAX - 1
    assert reconciler.faults_by_nic()["ens1f0"] == 1
    assert "undid it several times" in reconciler.faults["ens1f0: PFC 5"]

    await reconciler.run_round()

    assert node.executor.changes == before + REPEATS_MAX
    assert "undid it several times" in reconciler.faults["ens1f0: PFC 5"]

    node.dcb.pfc = bytes((8, 1 << 5)) + node.dcb.pfc[2:]
    await reconciler.run_round()

    assert reconciler.faults == {}


def refuse(*_: object) -> None:
    raise OSError(EPERM, "Operation not permitted")


class FailingNics(RoceNics):
    def carry_out(self, change: QosChange) -> None:
        refuse()


async def test_a_change_whose_socket_cannot_be_opened_is_a_fault(node: RoceNode) -> None:
    hardware = FailingNics(node.executor, QosFiles(node.files), node.kernel.open)
    reconciler = QosReconciler([RoceQosRule(RoceQos(), nics=("ens1f0",))], dict, hardware)

    assert await reconciler.run_round()

    assert "Operation not permitted" in reconciler.faults["ens1f0: PFC 5"]


async def test_a_failed_read_is_a_fault_of_each_known_nic_or_of_all_nics(node: RoceNode) -> None:
    hardware = RoceNics(node.executor, QosFiles(node.files), node.kernel.open)
    reconciler = QosReconciler([RoceQosRule(RoceQos(), nics=("ens*",))], dict, hardware)
    unreadable = RoceNics(node.executor, QosFiles(node.files), refuse)
    reconciler_without_nics = QosReconciler([RoceQosRule(RoceQos())], dict, unreadable)

    await reconciler_without_nics.run_round()
    await reconciler.run_round()
    hardware._open_rdma = refuse
    await reconciler.run_round()

    assert reconciler_without_nics.faults_by_nic() == {ALL_NICS: 1}
    assert reconciler.faults_by_nic() == {"ens1f0": 1, "ens1f0v0": 1}


async def test_a_rule_with_a_bandwidth_gives_roce_its_own_ets_class(
    node: RoceNode,
) -> None:
    reconciler = node.reconciler(RoceQosRule(RoceQos(bandwidth=60), nics=("ens1f0",)))

    await reconciler.run_round()
    changes = reconciler.changes
    await reconciler.run_round()

    assert list(node.dcb.ets[27:35]) == [0, 0, 0, 0, 0, 1, 2, 0]
    assert reconciler.changes == changes


async def test_rules_that_match_no_nic_are_logged_once(
    node: RoceNode, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = node.reconciler(RoceQosRule(RoceQos(), nics=("enp*",)))
    caplog.set_level(logging.INFO)

    for _ in range(2):
        await reconciler.run_round()

    assert [record.message for record in caplog.records] == [
        "no rule of orbweaver.roceQos selects a RoCE NIC of this node"
    ]


async def test_the_rule_of_a_bond_applies_to_the_members_and_the_rdma_device(
    node: RoceNode,
) -> None:
    node.write("class/net/bond0/type", "1")
    node.write("class/net/bond0/bonding/slaves", "ens1f0 ens1f1")
    node.write("class/net/ens1f1/type", "1")
    node.executor.links["ens1f1"] = DcbLink()
    node.kernel.devices[node.executor.own_namespace.identity] = (
        Device("mlx5_bond_0", node_guid=PF_GUID, system_guid=PF_GUID, ports=(Port("bond0"),)),
    )
    reconciler = node.reconciler(RoceQosRule(RoceQos(), nics=("bond0",)))

    await reconciler.run_round()

    assert node.dcb.pfc_priorities == node.executor.links["ens1f1"].pfc_priorities == [5]
    assert node.read(f"{ECN}/roce_np/enable/5") == "1"
    assert node.read(TOS, "mlx5_bond_0") == "160"
    assert reconciler.gaps_by_nic() == {"bond0": 1, "ens1f0": 0, "ens1f1": 1}, "ens1f1 has no ECN"


async def test_a_rule_applies_to_all_members_of_a_bond_if_one_has_the_rdma_device(
    node: RoceNode,
) -> None:
    node.write("class/net/bond0/bonding/slaves", "ens1f0 ens1f1")
    node.write("class/net/ens1f1/type", "1")
    net = node.files.root / "class/net"
    (net / "ens1f0/master").symlink_to(net / "bond0")
    node.executor.links["ens1f1"] = DcbLink()
    node.kernel.devices[node.executor.own_namespace.identity] = (
        Device("mlx5_bond_0", node_guid=PF_GUID, system_guid=PF_GUID, ports=(Port("ens1f0"),)),
    )
    reconciler = node.reconciler(RoceQosRule(RoceQos(), nics=("bond0",)))

    await reconciler.run_round()

    assert node.dcb.pfc_priorities == node.executor.links["ens1f1"].pfc_priorities == [5]
    assert set(reconciler.plan.desired) == {"ens1f0", "ens1f1"}


async def test_representors_of_a_card_are_not_configured(node: RoceNode) -> None:
    node.write("class/net/eth0/phys_port_name", "c1pf0vf3")
    reconciler = node.reconciler(RoceQosRule(RoceQos()))

    await reconciler.run_round()

    assert set(reconciler.plan.desired) == {"ens1f0", "ens1f0v0"}


async def test_settings_that_a_driver_lacks_are_logged_once_and_counted(
    node: RoceNode, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = node.reconciler(RoceQosRule(RoceQos(), nics=("eth0",)))

    for _ in range(2):
        await reconciler.run_round()

    assert node.read(TOS, "rxe0") == "160"
    assert reconciler.gaps_by_nic() == {"eth0": 3}
    assert [record.message for record in caplog.records][:1] == [
        "RoCE QoS is not complete: eth0: trust, PFC: the driver has no DCB"
    ]
    assert len(caplog.records) == 3


async def test_the_fault_of_a_failed_write_names_the_file(node: RoceNode) -> None:
    reconciler = node.reconciler()
    (node.files.root / ECN / "roce_rp/enable/5").unlink()

    await reconciler.run_round()

    (fault,) = reconciler.faults.values()
    assert fault.startswith(f"cannot write 1 to /sys/{ECN}/roce_rp/enable/5: No such file")


async def test_rules_for_labels_wait_until_the_labels_of_the_node_are_known(
    node: RoceNode,
) -> None:
    reconciler = node.reconciler(RoceQosRule(RoceQos(), nodes={"network": "roce"}))
    node.labels = None

    assert not await reconciler.run_round()
    node.labels = {"network": "roce"}
    assert await reconciler.run_round()

    assert set(reconciler.plan.desired) == {"ens1f0", "ens1f0v0", "eth0"}, "all but IPoIB"


async def test_a_node_without_rdma_has_no_desired_settings(node: RoceNode) -> None:
    node.kernel.devices.clear()
    node.labels = None
    reconciler = node.reconciler()

    assert await reconciler.run_round()

    assert (reconciler.plan.desired, reconciler.faults) == ({}, {})
