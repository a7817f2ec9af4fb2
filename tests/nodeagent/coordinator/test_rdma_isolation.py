"""The RDMA device of a Pod's NIC moves into the Pod and back.

A fake kernel answers RDMA netlink, because test machines have no RDMA device that can be moved.
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
    """A node whose engine moves RDMA devices."""

    kernel: Kernel
    tree: SysTree
    vf: Path
    node: NamespaceIdentity
    pod: NamespaceIdentity

    @property
    def device_location(self) -> str:
        """The namespace that has the device: "node" or "pod"."""
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
    # The last argument finds the PCI device of a link.
    mover = RdmaIsolation(
        network.executor, network_node.namespace, PciFiles(tree.root), kernel.open, lambda _: VF
    )
    marks = PreferredReplyMarkRules(network.executor)
    network_node.engine = network_node.engine_with(marks, mover)
    return Rdma(kernel, tree, vf, node, pod)


def test_add_moves_the_device_to_the_pod_and_del_moves_it_back(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    network_pod.add(rdmaIsolation=True)
    assert rdma.device_location == "pod"
    network_pod.add(rdmaIsolation=True)
    assert rdma.device_location == "pod"

    network_pod.delete()

    assert rdma.device_location == "node"


def test_the_device_stays_on_the_node_without_rdma_isolation(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    network_pod.add()

    assert rdma.device_location == "node"


def test_a_repeated_add_moves_the_device_after_a_crash(
    rdma: Rdma, network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def raise_killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RdmaIsolation, "move", raise_killed)
        with pytest.raises(Killed):
            network_pod.add(rdmaIsolation=True)
    assert rdma.device_location == "node"

    network_pod.add(rdmaIsolation=True)
    assert rdma.device_location == "pod"
    network_pod.delete()
    assert rdma.device_location == "node"


def test_a_repeated_del_removes_the_record_of_a_crashed_del(
    rdma: Rdma, network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def raise_killed(*_: object) -> None:
        raise Killed

    network_pod.add(rdmaIsolation=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(network_pod.node.records), "remove", raise_killed)
        with pytest.raises(Killed):
            network_pod.delete()
    assert rdma.device_location == "node"

    assert network_pod.delete()

    assert rdma.device_location == "node"
    assert network_pod.node.records.get(network_pod.container, "eth0") is None


def test_gc_returns_the_device_of_an_attachment_only_once(
    rdma: Rdma, network: NetworkHarness, network_pod: NetworkPod
) -> None:
    """GC passes "" as the name of the first NIC."""
    network_pod.add(rdmaIsolation=True)

    assert network_pod.node.engine.detach(network_pod.attachment(), "")

    assert rdma.device_location == "node"
    # A later Pod gets the device.
    rdma.kernel.devices = {rdma.node: (), rdma.pod: (DEVICE,)}
    assert not network_pod.node.engine.detach(network_pod.attachment(), "")
    assert rdma.device_location == "pod"


def test_the_error_has_a_remedy_if_the_driver_cannot_move_its_device(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    rdma.kernel.refusal = EOPNOTSUPP

    with pytest.raises(DatapathError, match="not supported") as error:
        network_pod.add(rdmaIsolation=True)

    assert "shared" in error.value.remedy


def test_a_failed_add_leaves_the_device_on_the_node(rdma: Rdma, network_pod: NetworkPod) -> None:
    rdma.kernel.refusal = EBUSY

    with pytest.raises(DatapathError, match=r"cannot move the RDMA device mlx5_4 .* busy"):
        network_pod.add(rdmaIsolation=True)

    rdma.kernel.refusal = 0
    assert rdma.device_location == "node"
    assert network_pod.node.records.get(network_pod.container, "eth0") is None


@pytest.mark.parametrize("link", ["eth0", ""])
def test_a_device_that_another_plugin_moved_stays_in_the_pod(
    rdma: Rdma, network_pod: NetworkPod, link: str
) -> None:
    """``link``: the link of the device's port; "" for an InfiniBand port."""
    moved_device = DEVICE._replace(ports=(Port(link),))
    rdma.kernel.devices = {rdma.node: (), rdma.pod: (moved_device,)}
    # The node's /sys hides a device that is in another namespace.
    (rdma.vf / "infiniband").rename(rdma.vf / "moved")

    network_pod.add(rdmaIsolation=True)
    network_pod.delete()

    assert rdma.device_location == "pod"


def test_an_add_is_refused_in_shared_mode_or_without_an_rdma_device(
    rdma: Rdma, network_pod: NetworkPod
) -> None:
    rdma.kernel.mode = SHARED_MODE
    with pytest.raises(DatapathError, match="expected RDMA mode exclusive"):
        network_pod.add(rdmaIsolation=True)

    rdma.kernel.mode = EXCLUSIVE_MODE
    (rdma.vf / "infiniband").rename(rdma.vf / "none")
    with pytest.raises(DatapathError, match=r"0000:3b:00\.2\) has no RDMA device"):
        network_pod.add(rdmaIsolation=True)


def test_set_netns_mode_sets_the_mode_once_and_reports_a_busy_kernel(
    network: NetworkHarness,
) -> None:
    kernel = Kernel(SHARED_MODE)
    kernel.devices = {network.executor.own_namespace.identity: ()}

    is_changed = set_netns_mode(network.executor, "exclusive", kernel.open)
    is_changed_again = set_netns_mode(network.executor, "exclusive", kernel.open)
    assert (is_changed, is_changed_again) == (True, False)
    assert kernel.mode == EXCLUSIVE_MODE
    kernel.refusal = EBUSY
    with pytest.raises(DatapathError) as error:
        set_netns_mode(network.executor, "shared", kernel.open)

    assert "options ib_core netns_mode=1" in error.value.remedy
    assert kernel.mode == EXCLUSIVE_MODE
