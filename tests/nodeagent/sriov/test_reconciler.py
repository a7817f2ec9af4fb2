"""The SR-IOV reconciler creates, restores and removes the virtual functions of policies.

It never removes a function that a Pod uses.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.sriov.model import (
    LEGACY,
    SWITCHDEV,
    VFIO,
    NicName,
    NicSelector,
    NodePolicy,
    VfRange,
)
from core.domain.sriov.vf_macs_and_guids import default_mac
from core.domain.sriov.vf_plan import Action
from core.errors import DatapathError
from core.settings.sriov import SriovSettings
from nodeagent.sriov.reconciler import NodeConfiguration, SriovReconciler
from tests.nodeagent.sriov.cards import Card, CardHardware
from tests.nodeagent.sriov.fake_policy_source import FakePolicySource
from tests.nodeagent.sriov.guid_log import GuidLog

NIC_OF_CARD = {
    "connectx-infiniband": "ibs1",
    "connectx-ethernet": "ens1f0np0",
    "intel-e810": "ens1f0",
}


class Node:
    def __init__(self, directory: Path, tree: str, settings: SriovSettings) -> None:
        self.card = Card(directory / "sys", tree)
        self.source = FakePolicySource()
        self.hardware = CardHardware(self.card)
        self.settings = settings
        self.nic = NIC_OF_CARD[tree]
        self.log = GuidLog()
        self.restart_agent()

    def restart_agent(self) -> None:
        keeper = self.log.keeper()
        self.reconciler = SriovReconciler(
            self.settings, self.source, self.hardware, keeper, withdrawal_s=0
        )

    def policy(self, vfs: int = 2, vf_range: VfRange | None = None, **fields: object) -> NodePolicy:
        nics = NicSelector((NicName(self.nic, vf_range),))
        policy = NodePolicy(name="rail", resource="rail", vfs=vfs, nics=nics)
        return policy._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture(params=NIC_OF_CARD)
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    node = Node(tmp_path, request.param, SriovSettings())
    await node.log.open()
    return node


@pytest.fixture
def ethernet(tmp_path: Path) -> Node:
    return Node(tmp_path, "intel-e810", SriovSettings())


async def test_virtual_functions_of_a_policy_are_created_once(node: Node) -> None:
    node.source.set_policies(node.policy(mtu=4_000))

    assert await node.reconciler.run_round()
    changes = len(node.card.writes)
    assert await node.reconciler.run_round()

    (nic,) = node.card.nics()
    assert (nic.mtu, [vf.mtu for vf in nic.vfs]) == (4_000, [4_000, 4_000])
    assert [vf.mac for vf in nic.vfs] == [default_mac(nic, number) for number in range(2)]
    assert all(vf.driver in {"mlx5_core", "iavf"} and vf.link for vf in nic.vfs)
    assert node.card.links_up == [nic.name]
    assert len(node.card.writes) == changes
    assert node.source.last_report.result == ("Succeeded", "")


async def test_the_current_eswitch_mode_is_not_set_again(
    tmp_path: Path,
) -> None:
    """A ConnectX does not show the mode in ``phys_switch_id``."""
    node = Node(tmp_path, "connectx-ethernet", SriovSettings())
    node.source.set_policies(node.policy(2, eswitch_mode=LEGACY))

    assert await node.reconciler.run_round()
    changes = len(node.card.writes)
    assert await node.reconciler.run_round()

    assert node.card.modes == {}
    assert len(node.card.writes) == changes


async def test_the_eswitch_mode_follows_the_policy(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, "connectx-ethernet", SriovSettings())
    node.source.set_policies(node.policy(2, eswitch_mode=SWITCHDEV))
    assert await node.reconciler.run_round()
    assert await node.reconciler.run_round()
    (nic,) = node.card.nics()
    assert (nic.name, nic.eswitch_mode, len(nic.vfs)) == (node.nic, SWITCHDEV, 2)
    assert [line for line in node.card.writes if line.startswith("sriov_numvfs")] == [
        "sriov_numvfs 2"
    ]

    node.source.set_policies(node.policy(2, eswitch_mode=LEGACY))
    assert await node.reconciler.run_round()

    (nic,) = node.card.nics()
    assert (nic.name, nic.eswitch_mode, len(nic.vfs)) == (node.nic, LEGACY, 2)
    assert node.source.last_report.result == ("Succeeded", "")


async def test_autoprobe_is_off_while_virtual_functions_are_created(node: Node) -> None:
    node.source.set_policies(node.policy(1))

    await node.reconciler.run_round()

    autoprobe = [line for line in node.card.writes if line.startswith("sriov_")]
    assert autoprobe == ["sriov_drivers_autoprobe 0", "sriov_numvfs 1", "sriov_drivers_autoprobe 1"]
    assert node.card.read(node.card.path / "sriov_drivers_autoprobe") == "1"


async def test_virtual_functions_are_bound_after_a_crash_during_their_creation(
    node: Node,
) -> None:
    node.card.write(node.card.path / "sriov_drivers_autoprobe", "0")
    node.card.write(node.card.path / "sriov_numvfs", "2")
    node.source.set_policies(node.policy(2, VfRange(1, 1)))

    assert await node.reconciler.run_round()

    # Function 0 is bound too, although it is not in the policy's range.
    (nic,) = node.card.nics()
    assert [vf.mac for vf in nic.vfs] == [default_mac(nic, number) for number in range(2)]
    assert all(vf.link for vf in nic.vfs)
    assert node.card.read(node.card.path / "sriov_drivers_autoprobe") == "1"


async def test_virtual_functions_are_recreated_identically_after_a_reboot(node: Node) -> None:
    node.source.set_policies(node.policy(3, mtu=3_000))
    await node.reconciler.run_round()
    before = node.card.nics()

    node.card.boot()
    node.restart_agent()
    await node.reconciler.run_round()

    assert node.card.nics() == before


async def test_a_new_number_of_functions_replaces_unused_functions(node: Node) -> None:
    node.source.set_policies(node.policy(2))
    await node.reconciler.run_round()

    node.source.set_policies(node.policy(5))
    assert await node.reconciler.run_round()

    assert len(node.card.nics()[0].vfs) == 5
    assert len((node.reconciler.vfs_by_resource or {})["rail"]) == 5


async def test_functions_are_removed_with_their_policy_even_after_a_restart(node: Node) -> None:
    node.source.set_policies(node.policy(2))
    await node.reconciler.run_round()

    node.restart_agent()
    node.source.set_policies()
    await node.reconciler.run_round()

    assert node.card.nics()[0].vfs == ()
    # The card stays declared until a round finds no functions on it.
    assert node.source.declared[-1] != ()
    await node.reconciler.run_round()
    assert list(node.source.declared[-1]) == []


async def test_functions_that_another_program_created_stay(node: Node) -> None:
    node.card.write(node.card.path / "sriov_numvfs", "2")

    assert await node.reconciler.run_round()

    assert len(node.card.nics()[0].vfs) == 2


async def test_drift_is_corrected(ethernet: Node) -> None:
    ethernet.source.set_policies(ethernet.policy(2, mtu=4_000))
    await ethernet.reconciler.run_round()

    (ethernet.card.root / "class/net/ens1f0/mtu").write_text("1500\n")
    ethernet.card.write(ethernet.card.path / "virtfn1/driver/unbind", "0000:17:01.1")
    assert await ethernet.reconciler.run_round()

    (nic,) = ethernet.card.nics()
    assert nic.mtu == 4_000
    assert nic.vfs[1].link


async def test_trust_and_spoof_check_are_restored_except_on_functions_of_pods(
    ethernet: Node,
) -> None:
    ethernet.source.set_policies(ethernet.policy(2, trust=True, spoof_check=False))
    await ethernet.reconciler.run_round()
    created = [(vf.trust, vf.spoof_check) for vf in ethernet.card.nics()[0].vfs]

    for number in range(2):
        ethernet.card.set_trust("ens1f0", number, trust=False)
    ethernet.hardware.pods = {ethernet.card.nics()[0].vfs[1].address: "shop/web-0"}
    assert await ethernet.reconciler.run_round()

    assert created == [(True, False), (True, False)]
    assert [vf.trust for vf in ethernet.card.nics()[0].vfs] == [True, False]


async def test_functions_are_bound_to_the_driver_of_the_policy_for_their_range(
    ethernet: Node,
) -> None:
    dpdk = ethernet.policy(4, VfRange(2, 3), device_type=VFIO)._replace(name="b", resource="dpdk")
    ethernet.source.set_policies(ethernet.policy(4, VfRange(0, 1)), dpdk)

    await ethernet.reconciler.run_round()

    assert [vf.driver for vf in ethernet.card.nics()[0].vfs] == ["iavf", "iavf", VFIO, VFIO]
    devices = ethernet.reconciler.vfs_by_resource or {}
    assert {name: [vf.number for vf in vfs] for name, vfs in devices.items()} == {
        "dpdk": [2, 3],
        "rail": [0, 1],
    }
    assert all(vf.is_ready for vfs in devices.values() for vf in vfs)


async def test_settings_that_cannot_be_read_are_set_once_for_each_new_function(
    ethernet: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_values: list[tuple[str, int, bool]] = []
    monkeypatch.setattr(ethernet.card, "vf_settings", lambda _: {})
    for name in ("trust", "spoof_check"):

        def record(link: str, vf: int, name: str = name, **value: bool) -> None:
            set_values.append((name, vf, value[name]))

        monkeypatch.setattr(ethernet.card, f"set_{name}", record)
    ethernet.source.set_policies(ethernet.policy(1, trust=True, spoof_check=True))

    assert await ethernet.reconciler.run_round()
    assert await ethernet.reconciler.run_round()
    assert set_values == [("trust", 0, True), ("spoof_check", 0, True)]

    set_values.clear()
    ethernet.card.boot()
    assert await ethernet.reconciler.run_round()
    assert set_values == [("trust", 0, True), ("spoof_check", 0, True)], "set again after a reboot"

    set_values.clear()
    ethernet.source.set_policies(ethernet.policy(1, trust=False, spoof_check=True))
    assert await ethernet.reconciler.run_round()
    assert set_values == [("trust", 0, False)]


async def test_virtual_functions_of_pods_are_never_removed(node: Node) -> None:
    node.source.set_policies(node.policy(2, device_type=VFIO))
    await node.reconciler.run_round()
    address = node.card.nics()[0].vfs[1].address
    node.hardware.pods = {address: "shop/web-0"}

    node.source.set_policies(node.policy(4, device_type=VFIO))
    before = node.hardware.nic_reads
    assert not await node.reconciler.run_round()

    assert node.hardware.nic_reads == before + 2, "one read before and one after the withdrawal"
    assert len(node.card.nics()[0].vfs) == 2
    report = node.source.last_report
    assert (report.blocking, report.needs_drain) == (("shop/web-0",), True)
    assert report.result.status == "InProgress"
    assert report.result.error == (
        f"{node.nic}: virtual functions to remove are used by shop/web-0; the node is drained first"
    )
    assert not any(vf.is_ready for vf in (node.reconciler.vfs_by_resource or {})["rail"])


async def test_a_function_that_a_pod_gets_during_a_round_is_not_removed(
    node: Node,
) -> None:
    """A round reads the Pods twice; kubelet admits this Pod in between."""
    node.source.set_policies(node.policy(2, device_type=VFIO))
    await node.reconciler.run_round()
    address = node.card.nics()[0].vfs[1].address
    offered: list[bool] = []

    def admit_a_pod() -> None:
        offered.append(any(vf.is_ready for vf in (node.reconciler.vfs_by_resource or {})["rail"]))
        node.hardware.pods = {address: "shop/web-0"}

    node.reconciler.listen(admit_a_pod)
    node.source.set_policies(node.policy(4, device_type=VFIO))
    assert not await node.reconciler.run_round()

    assert offered == [False], "withdrawn from kubelet before the removal"
    assert len(node.card.nics()[0].vfs) == 2
    assert node.source.last_report.blocking == ("shop/web-0",)


async def test_virtual_functions_that_the_kernel_does_not_remove_stay_withdrawn(
    ethernet: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every round would offer the functions to kubelet and withdraw them again."""
    ethernet.source.set_policies(ethernet.policy(2))
    await ethernet.reconciler.run_round()

    async def refuse(action: Action) -> None:
        raise DatapathError(f"cannot do {action}: Device or resource busy")

    monkeypatch.setattr(ethernet.hardware, "carry_out", refuse)
    ethernet.source.set_policies(ethernet.policy(4))
    changes: list[bool] = []
    ethernet.reconciler.listen(
        lambda: changes.append(
            any(vf.is_ready for vf in (ethernet.reconciler.vfs_by_resource or {})["rail"])
        )
    )
    for _ in range(2):
        assert not await ethernet.reconciler.run_round()

    assert changes == [False]
    assert len(ethernet.card.nics()[0].vfs) == 2


async def test_a_blocked_change_is_made_when_the_pods_are_deleted(node: Node) -> None:
    node.source.set_policies(node.policy(2))
    await node.reconciler.run_round()
    node.hardware.pods = {node.card.nics()[0].vfs[0].address: "shop/web-0"}
    node.source.set_policies(node.policy(4))
    await node.reconciler.run_round()

    node.hardware.pods = {}
    assert await node.reconciler.run_round()

    assert len(node.card.nics()[0].vfs) == 4
    assert not node.source.last_report.needs_drain


async def test_the_error_names_the_pods_that_block_a_change_if_draining_is_off(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, "intel-e810", SriovSettings(drain=False))
    node.source.set_policies(node.policy(2))
    await node.reconciler.run_round()
    node.hardware.pods = {node.card.nics()[0].vfs[0].address: "shop/web-0"}

    node.source.set_policies(node.policy(4))
    await node.reconciler.run_round()

    assert not node.source.last_report.needs_drain
    assert "functions to remove are used by shop/web-0; delete these Pods" in node.reconciler.fault


async def test_vfio_functions_count_as_used_while_kubelet_does_not_answer(ethernet: Node) -> None:
    ethernet.source.set_policies(ethernet.policy(2, device_type=VFIO))
    await ethernet.reconciler.run_round()
    ethernet.hardware.pods = None

    ethernet.source.set_policies(ethernet.policy(4, device_type=VFIO))
    await ethernet.reconciler.run_round()

    assert len(ethernet.card.nics()[0].vfs) == 2
    assert not ethernet.source.last_report.needs_drain, "there is no Pod to evict"
    assert "kubelet lists no Pod" in ethernet.reconciler.fault


async def test_the_drain_request_of_an_earlier_agent_stays_until_kubelet_answers(
    ethernet: Node,
) -> None:
    ethernet.source.set_policies(ethernet.policy(2, device_type=VFIO))
    await ethernet.reconciler.run_round()
    keeps_request_after_an_answer = ethernet.source.last_report.keeps_request
    # Kubelet has not answered since the agent started.
    ethernet.hardware.pods, ethernet.hardware.pods_known = None, False

    ethernet.source.set_policies(ethernet.policy(4, device_type=VFIO))
    await ethernet.reconciler.run_round()

    assert not keeps_request_after_an_answer
    assert ethernet.source.last_report.keeps_request


async def test_no_change_is_made_before_the_node_state_is_written(node: Node) -> None:
    node.source.set_policies(node.policy(2))
    node.source.api_server_is_silent = True

    assert not await node.reconciler.run_round()

    assert node.card.writes == []
    assert node.reconciler.fault == "the API server does not answer"


async def test_the_error_of_a_driver_that_is_not_loaded_has_a_remedy(ethernet: Node) -> None:
    driver = ethernet.card.root / "bus/pci/drivers/vfio-pci"
    (driver / "unbind").unlink()
    driver.rmdir()
    ethernet.source.set_policies(ethernet.policy(1, device_type=VFIO))

    assert not await ethernet.reconciler.run_round()

    status, text = ethernet.source.last_report.result
    assert status == "Failed"
    assert text.startswith("ens1f0 vf 0: driver vfio-pci: cannot bind 0000:17:01.0 to vfio-pci")
    assert "modprobe vfio-pci" in text


async def test_the_error_of_a_failed_write_names_the_file(
    ethernet: Node,
) -> None:
    (ethernet.card.path / "sriov_numvfs").unlink()
    ethernet.source.set_policies(ethernet.policy(2))

    await ethernet.reconciler.run_round()

    _, text = ethernet.source.last_report.result
    path = "/sys/bus/pci/devices/0000:17:00.0/sriov_numvfs"
    assert (
        f"cannot write 2 to {path}: No such file or directory (check that the NIC's driver" in text
    )


async def test_an_unreadable_policy_is_reported_and_the_other_policies_are_applied(
    node: Node,
) -> None:
    node.source.set_policies(node.policy(2))
    assert node.source.current is not None
    node.source.current = node.source.current._replace(unreadable=["policy x: spec.vdpaType"])

    await node.reconciler.run_round()

    assert node.source.last_report.result == ("Failed", "policy x: spec.vdpaType")
    assert len(node.card.nics()[0].vfs) == 2


async def test_nothing_changes_on_a_node_with_an_sriov_operator(node: Node) -> None:
    node.source.current = NodeConfiguration([node.policy(2)], {}, operator="sriov/daemon-x")

    assert not await node.reconciler.run_round()

    assert node.card.writes == []
    assert node.source.declared == []
    assert node.source.withdrawals == 1, "the agent withdraws an earlier drain request"
    assert "the Pod sriov/daemon-x of an SR-IOV operator" in node.reconciler.fault
    assert node.reconciler.vfs_by_resource is None


async def test_a_node_that_the_node_selector_does_not_match_is_not_changed(tmp_path: Path) -> None:
    node = Node(tmp_path, "intel-e810", SriovSettings(nodes={"network": "sriov"}))
    node.source.set_policies(node.policy(2))

    assert await node.reconciler.run_round()

    assert node.card.writes == []
    assert node.source.reports == []
    assert node.source.withdrawals == 1
    assert node.reconciler.vfs_by_resource == {}


async def test_no_change_is_made_before_policies_and_node_were_listed(node: Node) -> None:
    node.source.current = None

    assert not await node.reconciler.run_round()

    assert node.reconciler.fault == "the policies and the Node have not been listed yet"


async def test_listeners_are_called_only_when_the_devices_change(node: Node) -> None:
    changes = []
    node.reconciler.listen(lambda: changes.append(node.reconciler.vfs_by_resource))
    node.source.set_policies(node.policy(2))

    await node.reconciler.run_round()
    await node.reconciler.run_round()

    assert len(changes) == 1
