"""Virtual functions that policies select are offered to a kubelet and allocated to containers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from core.domain.sriov.model import NicName, NicSelector, NodePolicy, VfRange
from core.domain.sriov.resources import VfDevice, vf_devices
from core.domain.sriov.vf_plan import plan_node
from nodeagent.devices.device_advertiser import DeviceAdvertiser
from nodeagent.devices.device_info import DeviceInfoFiles
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.pci_files import PciFiles
from nodeagent.devices.physical_functions import physical_functions
from nodeagent.devices.vf_offers import VfSource
from tests.nodeagent.devices.fake_kubelet import Kubelet
from tests.nodeagent.devices.sys_tree import SysTree

PF = "0000:3b:00.0"
VFS = [f"0000:3b:00.{number}" for number in range(2, 6)]
RDMA = "spidernet.io/gpu1_rdma"
DPDK = "spidernet.io/dpdk"
RDMA_VARIABLE = "PCIDEVICE_SPIDERNET_IO_GPU1_RDMA"
ROUND_S = 0.02


class Node(NamedTuple):
    """A node with one card: two virtual functions for RDMA and two for vfio."""

    tree: SysTree
    physical: Path
    vfs: list[Path]
    info_directory: Path
    policies: list[NodePolicy]

    def devices(self) -> Mapping[str, tuple[VfDevice, ...]]:
        nics = physical_functions((), self.tree.root)
        return vf_devices(plan_node(self.policies, {"fabric": "yes"}, nics).desired, nics)

    def source(self) -> VfSource:
        files = PciFiles(self.tree.root), DeviceInfoFiles(self.info_directory)
        return VfSource(self.devices, "spidernet.io", *files)

    def set_carrier(self, text: str) -> None:
        (self.physical / "net/ens1f0/carrier").write_text(text)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    tree = SysTree(tmp_path / "sys")
    device = tree.device(
        PF, vendor="0x15b3", device="0x101d", sriov_totalvfs="8", sriov_numvfs="4", numa_node="1"
    )
    tree.link("ens1f0", device, address="0c:42:a1:00:00:01", mtu="9000", type="1", carrier="1")
    vfs = []
    for number, address in enumerate(VFS):
        driver = "mlx5_core" if number < 2 else "vfio-pci"
        vf = tree.vf(device, number, address, driver, numa_node="1")
        if number < 2:
            tree.link(f"ens1f0v{number}", vf, address="02:00:00:00:00:07", mtu="1500")
            tree.rdma(vf, 4 + number)
        else:
            tree.iommu_group(vf, 70 + number)
        vfs.append(vf)
    return Node(tree, device, vfs, tmp_path / "infos", list(POLICIES))


def policy(resource: str, first_vf: int, last_vf: int, **fields: Any) -> NodePolicy:
    nics = NicSelector((NicName("ens1f0", VfRange(first_vf, last_vf)),))
    node_policy = NodePolicy(resource, resource=resource, vfs=4, nics=nics, nodes={"fabric": "yes"})
    return node_policy._replace(**fields)


POLICIES = (policy("gpu1_rdma", 0, 1, is_rdma=True), policy("dpdk", 2, 3, device_type="vfio-pci"))


@pytest.fixture
async def kubelet(short_path: Path) -> AsyncIterator[Kubelet]:
    running_kubelet = Kubelet(short_path / PLUGINS_DIRECTORY)
    await running_kubelet.start()
    yield running_kubelet
    await running_kubelet.stop()


@asynccontextmanager
async def running_advertiser(node: Node, kubelet: Kubelet) -> AsyncIterator[DeviceAdvertiser]:
    advertiser = DeviceAdvertiser([node.source()], kubelet.directory, ROUND_S)
    task = asyncio.ensure_future(advertiser.run())
    try:
        yield advertiser
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await advertiser.close()


async def test_each_resource_lists_its_pci_addresses_and_numa_nodes(
    node: Node, kubelet: Kubelet
) -> None:
    node.policies[1] = node.policies[1]._replace(exclude_topology=True)
    node.policies.append(policy("elsewhere", 0, 1, nodes={"fabric": "no"}))
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: len(kubelet.devices) == 2)

    assert kubelet.list_lengths == {RDMA: [2], DPDK: [2]}
    assert kubelet.unhealthy == {RDMA: [], DPDK: []}
    assert kubelet.numa_nodes == {RDMA: dict.fromkeys(VFS[:2], 1), DPDK: {}}


async def test_a_container_gets_the_addresses_and_the_rdma_devices_of_its_functions(
    node: Node, kubelet: Kubelet
) -> None:
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        both_vfs, second = await kubelet.allocate_devices(RDMA, VFS[:2], VFS[1:2])

    names = ["rdma_cm", "uverbs4", "issm4", "umad4", "uverbs5", "issm5", "umad5"]
    assert both_vfs.variables[RDMA_VARIABLE] == "0000:3b:00.2,0000:3b:00.3"
    assert [path for path, _, _ in both_vfs.files] == [f"/dev/infiniband/{name}" for name in names]
    assert json.loads(second.variables[f"{RDMA_VARIABLE}_INFO"]) == {
        "0000:3b:00.3": {
            "generic": {"deviceID": "0000:3b:00.3"},
            "rdma": {
                "rdma_dev": "mlx5_5",
                "rdma_cm": "/dev/infiniband/rdma_cm",
                "uverbs": "/dev/infiniband/uverbs5",
                "issm": "/dev/infiniband/issm5",
                "umad": "/dev/infiniband/umad5",
            },
        }
    }
    assert set(second.files) == {
        (f"/dev/infiniband/{name}",) * 2 + ("rwm",)
        for name in ("rdma_cm", "uverbs5", "issm5", "umad5")
    }


async def test_a_vfio_function_has_the_device_file_of_its_iommu_group(
    node: Node, kubelet: Kubelet
) -> None:
    (node.tree.root / "kernel/iommu_groups/73/name").write_text("vfio-noiommu\n")
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: DPDK in kubelet.devices)

        first, second = await kubelet.allocate_devices(DPDK, [VFS[2]], [VFS[3]])

    assert [path for path, _, _ in first.files] == ["/dev/vfio/vfio", "/dev/vfio/72"]
    assert [path for path, _, _ in second.files] == ["/dev/vfio/vfio", "/dev/vfio/noiommu-73"]
    assert json.loads(first.variables["PCIDEVICE_SPIDERNET_IO_DPDK_INFO"])[VFS[2]]["vfio"] == {
        "mount": "/dev/vfio/vfio",
        "dev-mount": "/dev/vfio/72",
    }


async def test_the_device_info_file_names_the_rdma_device_of_a_function(
    node: Node, kubelet: Kubelet
) -> None:
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        await kubelet.allocate_devices(RDMA, VFS[:1])

    (info_file,) = node.info_directory.iterdir()
    assert info_file.name == "spidernet.io-gpu1_rdma-0000:3b:00.2-device.json"
    assert json.loads(info_file.read_text()) == {
        "type": "pci",
        "version": "1.1.0",
        "pci": {"pci-address": VFS[0], "pf-pci-address": PF, "rdma-device": "mlx5_4"},
    }


async def test_a_function_is_unhealthy_without_driver_rdma_device_or_carrier(
    node: Node, kubelet: Kubelet
) -> None:
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        node.tree.bind(node.vfs[2], "mlx5_core")
        await kubelet.until(lambda: kubelet.unhealthy[DPDK] == [VFS[2]])
        assert kubelet.unhealthy[RDMA] == []

        (node.vfs[0] / "infiniband").rename(node.vfs[0] / "gone")
        await kubelet.until(lambda: kubelet.unhealthy[RDMA] == [VFS[0]])

        node.set_carrier("0")
        await kubelet.until(lambda: kubelet.unhealthy == {RDMA: VFS[:2], DPDK: VFS[2:]})

        node.set_carrier("1")
        node.tree.bind(node.vfs[2], "vfio-pci")
        await kubelet.until(lambda: kubelet.unhealthy == {RDMA: VFS[:1], DPDK: []})


async def test_a_function_whose_link_is_in_a_pod_stays_listed_and_healthy(
    node: Node, kubelet: Kubelet
) -> None:
    vf = node.vfs[0]
    (node.tree.root / "class/net/ens1f0v0").unlink()
    (vf / "net").rename(vf / "elsewhere")
    (vf / "infiniband").rename(vf / "gone")
    async with running_advertiser(node, kubelet):
        await kubelet.until(lambda: RDMA in kubelet.devices)

    assert (kubelet.list_lengths[RDMA], kubelet.unhealthy[RDMA]) == ([2], [])


async def test_a_missing_resource_is_withdrawn_but_not_while_all_functions_are_unknown(
    node: Node, kubelet: Kubelet
) -> None:
    known_resources: list[str] = []

    def read_known_vfs() -> Mapping[str, tuple[VfDevice, ...]] | None:
        if not known_resources:
            return None
        return {name: vfs for name, vfs in node.devices().items() if name in known_resources}

    source = node.source()._replace(read_vfs=read_known_vfs)
    advertiser = DeviceAdvertiser([source], kubelet.directory, ROUND_S)
    task = asyncio.ensure_future(advertiser.run())
    await kubelet.until(lambda: advertiser.faults)
    known_resources += ["dpdk", "gpu1_rdma"]
    await kubelet.until(lambda: len(kubelet.devices) == 2)
    known_resources.clear()
    await kubelet.until(lambda: advertiser.faults)
    assert kubelet.list_lengths == {RDMA: [2], DPDK: [2]}

    known_resources.append("dpdk")
    await kubelet.until(lambda: kubelet.list_lengths[RDMA] == [2, 0])

    assert kubelet.list_lengths[DPDK] == [2]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await advertiser.close()


async def test_an_allocation_is_refused_if_files_of_the_function_are_missing(
    node: Node, kubelet: Kubelet
) -> None:
    async with running_advertiser(node, kubelet) as advertiser:
        await kubelet.until(lambda: DPDK in kubelet.devices)
        (node.vfs[2] / "iommu_group").unlink()

        with pytest.raises(grpc.aio.AioRpcError) as error:
            await kubelet.allocate_devices(DPDK, [VFS[2]])

    assert "iommu_group" in str(error.value.details())
    assert (advertiser.counts.allocations, advertiser.counts.refusals) == (0, 1)


async def test_a_kubelet_restart_registers_resources_before_the_next_round(
    node: Node, kubelet: Kubelet
) -> None:
    advertiser = DeviceAdvertiser([node.source()], kubelet.directory, round_s=3_600)
    task = asyncio.ensure_future(advertiser.run())
    await kubelet.until(lambda: len(kubelet.devices) == 2)
    await kubelet.stop()

    await kubelet.start()

    await kubelet.until(lambda: len(kubelet.devices) == 2)
    assert sorted(kubelet.registered_resources) == [DPDK, DPDK, RDMA, RDMA]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await advertiser.close()


async def test_wake_applies_changed_policies_before_the_next_round(
    node: Node, kubelet: Kubelet
) -> None:
    advertiser = DeviceAdvertiser([node.source()], kubelet.directory, round_s=3_600)
    task = asyncio.ensure_future(advertiser.run())
    await kubelet.until(lambda: len(kubelet.devices) == 2)
    del node.policies[1]

    advertiser.wake()

    await kubelet.until(lambda: kubelet.list_lengths[DPDK] == [2, 0])
    assert kubelet.devices[RDMA] == VFS[:2]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await advertiser.close()
