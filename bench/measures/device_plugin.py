"""The device plugin of a large node.

The measured times: from a start of kubelet until kubelet has all devices, and of one Allocate.
Each NIC is a resource. A fake kubelet serves real sockets; the devices are files of a fake /sys.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from core.domain.sriov.model import NicName, NicSelector, NodePolicy
from core.domain.sriov.resources import vf_devices
from core.domain.sriov.vf_plan import plan_node
from nodeagent.devices.device_advertiser import DeviceAdvertiser
from nodeagent.devices.device_info import DeviceInfoFiles
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.pci_files import PciFiles
from nodeagent.devices.physical_functions import physical_functions
from nodeagent.devices.vf_offers import VfSource
from tests.nodeagent.devices.fake_kubelet import Kubelet
from tests.nodeagent.devices.sys_tree import SysTree

NICS = 8
VFS = 16
RESTARTS_MAX = 5


def measure(lab: Lab) -> list[Figure]:
    """Measure devices_ready_s and device_allocate_ms."""
    root = lab.new_directory("devices")
    source = _source(root)
    # Linux limits the length of a socket's path.
    with tempfile.TemporaryDirectory(prefix="ow-") as short_directory:
        kubelet = Kubelet(Path(short_directory) / PLUGINS_DIRECTORY)
        ready_s, allocate_ms = asyncio.run(_measure(lab, source, kubelet))
    note = f"{NICS * VFS} virtual functions of {NICS} resources"
    return [
        median_figure("devices_ready_s", ready_s, "s", note=note),
        median_figure("device_allocate_ms", allocate_ms, "ms", note=f"one of {note}, with RDMA"),
    ]


async def _measure(lab: Lab, source: VfSource, kubelet: Kubelet) -> tuple[list[float], list[float]]:
    await kubelet.start()
    advertiser = DeviceAdvertiser([source], kubelet.directory)
    task = asyncio.ensure_future(advertiser.run())
    try:
        ready_s = []
        for _ in lab.rounds(RESTARTS_MAX):
            await kubelet.until(lambda: _is_complete(kubelet))
            await kubelet.stop()
            await kubelet.start()
            began = time.perf_counter()
            await kubelet.until(lambda: _is_complete(kubelet))
            ready_s.append(time.perf_counter() - began)
        allocate_ms = [
            await _allocate_ms(kubelet, resource, device)
            for resource, devices in kubelet.devices.items()
            for device in devices
        ]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await advertiser.close()
        await kubelet.stop()
    return ready_s, allocate_ms


def _is_complete(kubelet: Kubelet) -> bool:
    return sum(map(len, kubelet.devices.values())) == NICS * VFS


async def _allocate_ms(kubelet: Kubelet, resource: str, device: str) -> float:
    began = time.perf_counter()
    await kubelet.allocate_devices(resource, [device])
    return (time.perf_counter() - began) * 1_000


def _source(root: Path) -> VfSource:
    tree = SysTree(root / "sys")
    policies = [_nic(tree, number) for number in range(NICS)]
    nics = physical_functions((), tree.root)
    devices = vf_devices(plan_node(policies, {}, nics).desired, nics)
    files = PciFiles(tree.root), DeviceInfoFiles(root / "infos")
    return VfSource(lambda: devices, "spidernet.io", *files)


def _nic(tree: SysTree, number: int) -> NodePolicy:
    """Write a NIC into the tree; return its policy."""
    name, counts = f"rail{number}", {"sriov_totalvfs": str(VFS), "sriov_numvfs": str(VFS)}
    device = tree.device(f"0000:{number:02x}:00.0", vendor="0x15b3", device="0x101d", **counts)
    tree.link(name, device, mtu="9000", type="1", carrier="1")
    for vf_number in range(VFS):
        address = f"0000:{number:02x}:01.{vf_number:x}"
        vf = tree.vf(device, vf_number, address, "mlx5_core", numa_node="1")
        tree.link(f"{name}v{vf_number}", vf, mtu="9000", type="1")
        tree.rdma(vf, number * VFS + vf_number)
    nics = NicSelector((NicName(name),))
    return NodePolicy(name, resource=name, vfs=VFS, nics=nics, is_rdma=True)
