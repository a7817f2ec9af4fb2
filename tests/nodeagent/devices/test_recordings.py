"""The agent reads /sys trees that tests write or that were recorded on machines.

The recordings are not in the repository; see docs/contributing/testing.md, "Recordings of cards".
Tests compute the expected results from the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from core.domain.sriov.model import INFINIBAND, NicSelector, NodePolicy
from core.domain.sriov.vf_plan import plan_node
from nodeagent.devices.pci_files import PciFiles
from nodeagent.devices.physical_functions import physical_functions
from nodeagent.devices.shared_rdma_offers import host_rdma_devices
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.rdma import RdmaSocket
from nodeagent.rdma.counter_reader import CounterReader
from nodeagent.roce_qos.qos_files import QosFiles
from nodeagent.sriov.sysfs import Sysfs
from tests.nodeagent.devices.written_machines import MACHINE_WRITERS
from tests.nodeagent.rdma.scripted_kernel import Device, Kernel, Port

DIRECTORY = os.environ.get("ORBWEAVER_RECORDINGS", "")
PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
MISSING_LINK = "no-link-0"


def trees() -> list[Path]:
    if not DIRECTORY:
        return []
    return sorted(path for path in Path(DIRECTORY).glob("*/sys") if path.is_dir())


@pytest.fixture(
    params=[*MACHINE_WRITERS, *trees()],
    ids=lambda tree: tree if isinstance(tree, str) else f"recorded-{tree.parent.name}",
)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if isinstance(request.param, Path):
        return request.param
    MACHINE_WRITERS[request.param](tmp_path / "sys")
    return tmp_path / "sys"


def text(path: Path) -> str:
    """The content of a file; "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def existing_entries(directory: Path) -> list[Path]:
    """The entries of a directory, without symbolic links whose targets were not recorded."""
    return sorted(path for path in directory.glob("*") if path.exists())


def recorded_ports(device: Path) -> Iterator[Path]:
    yield from existing_entries(device / "ports")


def test_every_card_that_supports_virtual_functions_is_read(tree: Path) -> None:
    sriov_devices = {
        (link / "device").resolve()
        for link in existing_entries(tree / "class/net")
        if (link / "device/sriov_totalvfs").exists()
    }

    nics = physical_functions((), tree)

    assert {nic.address for nic in nics} == {device.name for device in sriov_devices}
    for nic in nics:
        link = tree / "class/net" / nic.name
        assert PCI_ADDRESS.fullmatch(nic.address)
        assert int(nic.vendor, 16) == int(text(link / "device/vendor"), 16)
        assert (nic.vfs_max, nic.mtu) == (
            int(text(link / "device/sriov_totalvfs")),
            int(text(link / "mtu")),
        )
        assert (nic.link_type == INFINIBAND) == (text(link / "type") == "32")
        assert text(link / "address").endswith(nic.mac)


def test_a_policy_for_all_cards_plans_virtual_functions_on_every_card(tree: Path) -> None:
    nics = physical_functions((), tree)
    vendors = {nic.vendor for nic in nics}
    policies = [
        NodePolicy(f"all-{vendor}", resource="all", vfs=2, nics=NicSelector(vendor=vendor))
        for vendor in vendors
    ]

    plan = plan_node(policies, {}, nics)

    assert (plan.refusals, plan.drain) == ((), ())
    assert {target.address for target in plan.desired} == {nic.address for nic in nics}


def test_every_rdma_device_is_read_with_its_links_and_state(tree: Path) -> None:
    devices = host_rdma_devices(tree)

    assert [device.name for device in devices] == sorted(
        path.name for path in (tree / "class/infiniband").glob("*")
    )
    for device in devices:
        directory = tree / "class/infiniband" / device.name
        states = [text(port / "state") for port in recorded_ports(directory)]
        assert device.is_active == any(state.startswith("4:") for state in states)
        links = [link.name for link in existing_entries(directory / "device/net")]
        assert list(device.links) == links
        if (directory / "device/vendor").exists():
            assert re.fullmatch(r"[0-9a-f]{4}", device.vendor)
        if links:
            kind = text(tree / "class/net" / links[0] / "type")
            assert device.link_type == {"1": "ether", "32": "infiniband"}[kind]


def test_files_of_an_rdma_device_are_found_by_its_pci_address(tree: Path) -> None:
    pci = PciFiles(tree)
    for directory in existing_entries(tree / "class/infiniband"):
        device = (directory / "device").resolve()
        if not (tree / "bus/pci/devices" / device.name).exists():
            continue
        verbs = [path.name for path in existing_entries(device / "infiniband_verbs")]
        files = {Path(file.path).name for file in pci.rdma_files(device.name)}
        assert pci.rdma_name(device.name) == directory.name
        assert files >= set(verbs)


def test_the_address_of_a_link_ends_with_the_guid_of_its_port(tree: Path) -> None:
    """The agent finds a port's link by the port's GUID, which may differ from the device's GUID."""
    for directory in existing_entries(tree / "class/infiniband"):
        gids = [text(port / "gids/0") for port in recorded_ports(directory)]
        guids = {gid.replace(":", "")[-16:] for gid in gids if gid}
        addresses = {
            text(link / "address").replace(":", "")[-16:]
            for link in existing_entries(directory / "device/net")
            if text(link / "type") == "32"
        }
        assert addresses <= guids


def test_counters_of_every_port_are_read_from_their_files(
    tree: Path, executor: NetnsExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()
    kernel.devices[executor.own_namespace.identity] = tuple(
        Device(
            path.name, number, number, tuple(Port(MISSING_LINK, None) for _ in recorded_ports(path))
        )
        for number, path in enumerate(existing_entries(tree / "class/infiniband"), 1)
    )
    monkeypatch.setattr(RdmaSocket, "open", kernel.open)

    reading = CounterReader(executor, directories=(), sysfs=tree).read()

    assert reading.faults == {}
    counters: dict[str, list[Mapping[str, int]]] = {}
    for port in reading.namespaces[0].ports:
        counters.setdefault(port.device, []).append(port.counters)
    for directory in existing_entries(tree / "class/infiniband"):
        expected = [
            {
                file.name: int(text(file))
                for file in existing_entries(port / "hw_counters")
                if file.name != "lifespan" and text(file).isdecimal()
            }
            for port in recorded_ports(directory)
        ]
        assert counters.get(directory.name, []) == expected


def test_qos_of_every_link_is_read(tree: Path) -> None:
    files = QosFiles(Sysfs(tree))
    for link in existing_entries(tree / "class/net"):
        ecn = files.ecn(link.name)
        assert files.is_nic(link.name) == (text(link / "type") == "1")
        assert (ecn is not None) == (link / "ecn").is_dir()
        if ecn is not None:
            enabled = {
                int(file.name)
                for file in existing_entries(link / "ecn/roce_np/enable")
                if text(file) == "1"
            }
            assert ecn.notification == enabled
            assert ecn.cnp_dscp == int(text(link / "ecn/roce_np/cnp_dscp"))
            assert ecn.cnp_priority == int(text(link / "ecn/roce_np/cnp_802p_prio"))
        assert set(files.nics_of_bond(link.name)) == set(text(link / "bonding/slaves").split())
