"""The RDMA device of a Pod's NIC moves into the Pod and back.

RDMA netlink is scripted, because test machines have no RDMA device that can be moved. Namespaces,
links and attachment records are real.
"""

from __future__ import annotations

from errno import EBUSY, EOPNOTSUPP
from pathlib import Path
from typing import NamedTuple

import pytest

from core.errors import DatapathError
from nodeagent.coordinator.rdma_isolation import RdmaIsolation
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.devices.pci_files import PciFiles
from nodeagent.netlink.namespaces import NamespaceIdentity
from nodeagent.rdma.netns_mode import set_netns_mode
from tests.nodeagent.devices.sys_tree import SysTree
from tests.nodeagent.rdma.scripted_kernel import EXCLUSIVE_MODE, SHARED_MODE, Device, Kernel, Port
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod

VF = "0000:3b:00.2"
DEVICE = Device("mlx5_4", node_guid=1, system_guid=1, ports=(Port("eth0"),))

pytestmark = pytest.mark.netns


class Rdma(NamedTuple):
    """A node whose engine moves the RDMA device of the virtual function ``vf``."""

    kernel: Kernel
    tree: SysTree
    vf: Path
    node: NamespaceIdentity
    pod: NamespaceIdentity

    @property
    def holder(self) -> str:
        """Whose namespace has the device: "node" or "pod"."""
        (identity,) = self.kernel.namespaces_of(DEVICE.name)
        return {self.node: "node", self.pod: "pod"}[identity]


@pytest.fixture
def rdma(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod, tmp_path: Path
) -> Rdma:
    tree = SysTree(tmp_path / "sys")
    vf = tree.device(VF)
    tree.rdma(vf, 4)
    kernel = Kernel(EXCLUSIVE_MODE)
    node, pod = network_node.namespace.identity, network.open_namespace(network_pod.inside).identity
    kernel.devices = {node: (DEVICE,), pod: ()}
    # The last argument finds the PCI device of a link: here always the virtual function.
    mover = RdmaIsolation(
        network.executor, network_node.namespace, PciFiles(tree.root), kernel.open, lambda _: VF
    )
    marks = PreferredReplyMarkRules(network.executor)
    network_node.engine = network_node.engine_with(marks, mover)
    return Rdma(kernel, tree, vf, node, pod)


def test_the_device_moves_with_the_nic_and_back_with_del(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    network_pod.add(rdmaIsolation=True)
    assert rdma.holder == "pod"
    network_pod.add(rdmaIsolation=True)
    assert rdma.holder == "pod"

    network_pod.delete()

    assert rdma.holder == "node"


def test_without_rdma_isolation_the_device_stays_on_the_node(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    network_pod.add()

    assert rdma.holder == "node"


def test_a_repeated_add_after_a_crash_before_the_move_moves_the_device(
    rdma: Rdma, network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RdmaIsolation, "move", die)
        with pytest.raises(Killed):
            network_pod.add(rdmaIsolation=True)
    assert rdma.holder == "node"

    network_pod.add(rdmaIsolation=True)
    assert rdma.holder == "pod"
    network_pod.delete()
    assert rdma.holder == "node"


def test_a_repeated_del_removes_the_record_that_a_crashed_del_left(
    rdma: Rdma, network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    network_pod.add(rdmaIsolation=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(network_pod.node.records), "remove", die)
        with pytest.raises(Killed):
            network_pod.delete()
    assert rdma.holder == "node"

    assert network_pod.delete()

    assert rdma.holder == "node"
    assert network_pod.node.records.get(network_pod.container, "eth0") is None


def test_gc_returns_the_device_of_a_deleted_pod_and_not_that_of_a_later_pod(
    rdma: Rdma, network: NetworkHarness, network_pod: NetworkPod
) -> None:
    """As in GC, ``detach`` gets "" for the name of the first NIC."""
    network_pod.add(rdmaIsolation=True)

    assert network_pod.node.engine.detach(network_pod.attachment(), "")

    assert rdma.holder == "node"
    rdma.kernel.devices = {rdma.node: (), rdma.pod: (DEVICE,)}
    assert not network_pod.node.engine.detach(network_pod.attachment(), "")
    assert rdma.holder == "pod"


def test_the_error_of_a_driver_that_cannot_move_its_device_has_a_remedy(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    """The kernel returns EOPNOTSUPP for soft RoCE."""
    rdma.kernel.refusal = EOPNOTSUPP

    with pytest.raises(DatapathError, match="not supported") as refused:
        network_pod.add(rdmaIsolation=True)

    assert "shared" in refused.value.remedy


def test_a_failed_add_returns_the_device(rdma: Rdma, network_pod: NetworkPod) -> None:
    rdma.kernel.refusal = EBUSY

    with pytest.raises(DatapathError, match=r"cannot move the RDMA device mlx5_4 .* busy"):
        network_pod.add(rdmaIsolation=True)

    rdma.kernel.refusal = 0
    assert rdma.holder == "node"
    assert network_pod.node.records.get(network_pod.container, "eth0") is None


@pytest.mark.parametrize("link", ["eth0", ""])
def test_a_device_that_another_plugin_moved_stays_in_the_pod(
    rdma: Rdma, network_pod: NetworkPod, link: str
) -> None:
    """``link``: the link of the device's port; "" for an InfiniBand port."""
    moved = DEVICE._replace(ports=(Port(link),))
    rdma.kernel.devices = {rdma.node: (), rdma.pod: (moved,)}
    # The node's /sys does not show a device that is in another namespace.
    (rdma.vf / "infiniband").rename(rdma.vf / "moved")

    network_pod.add(rdmaIsolation=True)
    network_pod.delete()

    assert rdma.holder == "pod"


def test_an_add_is_refused_in_shared_mode_and_without_an_rdma_device(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    rdma.kernel.mode = SHARED_MODE
    with pytest.raises(DatapathError, match="expected RDMA mode exclusive"):
        network_pod.add(rdmaIsolation=True)

    rdma.kernel.mode = EXCLUSIVE_MODE
    (rdma.vf / "infiniband").rename(rdma.vf / "none")
    with pytest.raises(DatapathError, match=r"0000:3b:00\.2\) has no RDMA device"):
        network_pod.add(rdmaIsolation=True)


def test_the_mode_is_set_once_and_a_busy_kernel_is_reported(network: NetworkHarness) -> None:
    kernel = Kernel(SHARED_MODE)
    kernel.devices = {network.executor.own_namespace.identity: ()}

    is_changed = set_netns_mode(network.executor, "exclusive", kernel.open)
    is_changed_again = set_netns_mode(network.executor, "exclusive", kernel.open)
    assert (is_changed, is_changed_again) == (True, False)
    assert kernel.mode == EXCLUSIVE_MODE
    kernel.refusal = EBUSY
    with pytest.raises(DatapathError) as refused:
        set_netns_mode(network.executor, "shared", kernel.open)

    assert "options ib_core netns_mode=1" in refused.value.remedy
    assert kernel.mode == EXCLUSIVE_MODE
