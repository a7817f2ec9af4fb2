"""The reader reads RDMA counters of the node, and in exclusive mode also those of its Pods.

In exclusive mode each RDMA device belongs to one network namespace.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from core.errors import NetlinkLost
from nodeagent.netlink import ethtool
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaSocket
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import Link as KernelLink
from nodeagent.rdma.counter_reader import READ_S_MAX, CounterReader
from nodeagent.rdma.rdma_ports import RdmaPortLink
from tests.nodeagent.rdma.scripted_kernel import EXCLUSIVE_MODE, SHARED_MODE, Device, Kernel, Port
from tests.nodeagent.sriov.cards import Card
from tests.support.emulation import needs_driver_ioctls
from tests.support.link import NAMESPACES_FOLDER, Link, ip

CARD_GUID = 0x506B4B0300AABBCC
MISSING_LINK = "no-link-0"

NODE_DEVICE = Device(
    "mlx5_0",
    node_guid=CARD_GUID,
    system_guid=CARD_GUID,
    ports=(Port(MISSING_LINK, {"np_cnp_sent": 4}),),
)


@pytest.fixture
def kernel(executor: NetnsExecutor, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    scripted = Kernel()
    scripted.devices[executor.own_namespace.identity] = (NODE_DEVICE,)
    monkeypatch.setattr(RdmaSocket, "open", scripted.open)
    return scripted


class Pod:
    """A network namespace, linked in ``directory``, with an RDMA device for eth0."""

    def __init__(self, link: Link, kernel: Kernel, directory: Path, *addresses: str) -> None:
        station = link.station(*addresses)
        self.netns = Path(station.netns)
        (directory / self.netns.name).symlink_to(station.netns)
        device = Device(
            "mlx5_4",
            node_guid=1,
            system_guid=CARD_GUID,
            ports=(Port("eth0", {"rx_write_requests": 3}),),
        )
        with NetworkNamespace.open(station.netns) as namespace:
            kernel.devices[namespace.identity] = (device,)

    def route(self, gateway: str) -> None:
        ip("-n", self.netns.name, "route", "add", "default", "via", gateway)


def test_a_kernel_without_rdma_has_no_ports(executor: NetnsExecutor, tmp_path: Path) -> None:
    reader = CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path)

    result = reader.read()

    assert result.faults == {}
    assert [port for namespace in result.namespaces for port in namespace.ports] == []


def test_the_nodes_devices_are_read_with_their_traffic_class(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path
) -> None:
    reader = CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path)
    expected = RdmaPortLink(
        "mlx5_0", MISSING_LINK, CARD_GUID, CARD_GUID, {"np_cnp_sent": 4}, traffic_class=0
    )
    assert reader.read().namespaces[0].ports == (expected,), "no traffic class is set"

    directory = tmp_path / "class/infiniband/mlx5_0/tc/1"
    directory.mkdir(parents=True)
    (directory / "traffic_class").write_text("Global tclass=106\n")
    assert reader.read().namespaces[0].ports == (expected._replace(traffic_class=106),)

    (directory / "traffic_class").write_bytes(b"\xff")
    assert reader.read().namespaces[0].ports == (expected,), "an unreadable file"


def test_a_virtual_function_has_no_traffic_class(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.devices[executor.own_namespace.identity] = (NODE_DEVICE._replace(node_guid=1),)
    monkeypatch.setattr(ethtool, "bus_address", lambda *_: "0000:03:00.1")
    (tmp_path / "bus/pci/devices/0000:03:00.1/physfn/net/ens1f0").mkdir(parents=True)

    (port,) = (
        CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read().namespaces[0].ports
    )

    assert (port.is_root, port.traffic_class) == (False, None)


def test_the_second_port_of_a_card_has_a_traffic_class(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path
) -> None:
    """The GUIDs of a second port and of a virtual function both differ from the system GUID."""
    kernel.devices[executor.own_namespace.identity] = (
        NODE_DEVICE._replace(node_guid=CARD_GUID + 1),
    )
    directory = tmp_path / "class/infiniband/mlx5_0/tc/1"
    directory.mkdir(parents=True)
    (directory / "traffic_class").write_text("Global tclass=106\n")

    (port,) = (
        CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read().namespaces[0].ports
    )

    assert (port.is_root, port.traffic_class) == (False, 106)


def test_each_port_of_a_connectx3_has_its_own_link(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GUID of each port differs from the GUID of the device."""
    card = Card(tmp_path / "sys", "connectx3-two-ports")
    ports = (Port("", {"port_xmit_wait": 1}), Port("", {"port_xmit_wait": 2}))
    device = Device(
        "mlx4_0", node_guid=0x0002C90300F9BFA0, system_guid=0x0002C90300F9BFA3, ports=ports
    )
    kernel.devices[executor.own_namespace.identity] = (device,)
    addresses = [card.read(card.path / f"net/ib{number}/address") for number in range(2)]
    links = [
        KernelLink(number, f"ib{number}", mac=bytes.fromhex(address.replace(":", "")))
        for number, address in enumerate(addresses)
    ]
    monkeypatch.setattr(NetlinkSession, "links", lambda _: links)

    result = (
        CounterReader(executor, directories=(tmp_path,), sysfs=card.root).read().namespaces[0].ports
    )

    assert [(port.link, port.counters) for port in result] == [
        ("ib0", {"port_xmit_wait": 1}),
        ("ib1", {"port_xmit_wait": 2}),
    ]


def test_the_parent_of_a_virtual_functions_port_is_the_physical_function(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ethtool, "bus_address", lambda *_: "0000:03:00.1")
    (tmp_path / "bus/pci/devices/0000:03:00.1/physfn/net/ens1f0").mkdir(parents=True)

    (port,) = (
        CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read().namespaces[0].ports
    )

    assert port.parent == "ens1f0"


def test_counters_are_read_from_sys_if_netlink_refuses_them(
    executor: NetnsExecutor, kernel: Kernel, tmp_path: Path
) -> None:
    kernel.devices[executor.own_namespace.identity] = (
        NODE_DEVICE._replace(ports=(Port(MISSING_LINK, None),)),
    )
    directory = tmp_path / "class/infiniband/mlx5_0/ports/1/hw_counters"
    directory.mkdir(parents=True)
    (directory / "np_cnp_sent").write_text("5\n")
    (directory / "lifespan").write_text("10\n")
    (directory / "odd").write_text("N/A\n")

    (port,) = (
        CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read().namespaces[0].ports
    )

    assert port.counters == {"np_cnp_sent": 5}


def test_a_device_without_a_link_gets_the_link_whose_mac_matches_its_guid(
    executor: NetnsExecutor, kernel: Kernel, link: Link, tmp_path: Path
) -> None:
    kernel.mode = EXCLUSIVE_MODE
    pod = Pod(link, kernel, tmp_path, "10.6.0.17/24")
    # The GUID of the Pod's MAC address, which is 1 less than that of the next station.
    guid = 0x020000FFFE000000 + int(link.station().mac.rpartition(":")[2], 16) - 1
    ports = (Port("", {"np_cnp_sent": 1}),)
    with NetworkNamespace.open(str(pod.netns)) as namespace:
        devices = (
            Device("mlx5_4", node_guid=guid, system_guid=CARD_GUID, ports=ports),
            Device("mlx5_5", node_guid=9, system_guid=CARD_GUID, ports=ports),
        )
        kernel.devices[namespace.identity] = devices

    _, namespace_ports = (
        CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read().namespaces
    )

    assert [(port.device, port.link) for port in namespace_ports.ports] == [("mlx5_4", "eth0")]


@needs_driver_ioctls
def test_devices_of_pods_are_read_in_exclusive_but_not_in_shared_mode(
    executor: NetnsExecutor, kernel: Kernel, link: Link, tmp_path: Path
) -> None:
    pod = Pod(link, kernel, tmp_path, "10.6.0.17/24")
    pod.route("10.6.0.1")
    ipv6_pod = Pod(link, kernel, tmp_path, "fd00:6::17/64")
    ipv6_pod.route("fd00:6::1")
    (tmp_path / "again").symlink_to(pod.netns)  # a second name of a Pod's namespace
    (tmp_path / "default").symlink_to(link.station().netns)  # the name of the node's own namespace
    (tmp_path / "empty").symlink_to(link.station().netns)  # has no RDMA device
    (tmp_path / "gone").symlink_to(NAMESPACES_FOLDER / "gone")
    reader = CounterReader(executor, directories=(tmp_path, tmp_path / "no-docker"), sysfs=tmp_path)

    for mode in (SHARED_MODE, None):
        kernel.mode = mode
        assert len(reader.read().namespaces) == 1, "shared devices belong to the node"

    kernel.mode = EXCLUSIVE_MODE
    result = reader.read()
    node_ports, *pods = result.namespaces
    assert (node_ports.address, result.faults) == ("", {})
    assert {namespace_ports.address for namespace_ports in pods} == {"10.6.0.17", "fd00:6::17"}
    for namespace_ports in pods:
        (port,) = namespace_ports.ports
        assert (port.device, port.link, port.counters) == (
            "mlx5_4",
            "eth0",
            {"rx_write_requests": 3},
        )
        assert port.speed_mbps == 10_000, "the speed of a veth"
        assert "peer_ifindex" in port.statistics
        assert port.traffic_class is None, "/sys shows only the node's devices"


def test_a_read_continues_after_a_namespace_that_cannot_be_read(
    executor: NetnsExecutor,
    kernel: Kernel,
    link: Link,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel.mode = EXCLUSIVE_MODE
    bad, good = (Pod(link, kernel, tmp_path, f"10.6.0.{last}/24") for last in (17, 18))
    good.route("10.6.0.1")
    (tmp_path / "no-namespace").write_text("")

    def open_or_fail(executor: NetnsExecutor, namespace: NetworkNamespace) -> RdmaSocket | None:
        if namespace.path == str(tmp_path / bad.netns.name):
            raise NetlinkLost("not entered")
        return kernel.open(executor, namespace)

    monkeypatch.setattr(RdmaSocket, "open", open_or_fail)
    result = CounterReader(executor, directories=(tmp_path,), sysfs=tmp_path).read()

    assert [namespace_ports.address for namespace_ports in result.namespaces] == ["", "10.6.0.18"]
    assert set(result.faults) == {str(tmp_path / bad.netns.name)}


def test_a_read_stops_at_its_deadline_and_reports_a_fault(
    executor: NetnsExecutor, kernel: Kernel, link: Link, tmp_path: Path
) -> None:
    kernel.mode = EXCLUSIVE_MODE
    Pod(link, kernel, tmp_path, "10.6.0.17/24")
    moments = iter((0.0, READ_S_MAX + 1))

    result = CounterReader(
        executor, directories=(tmp_path,), sysfs=tmp_path, monotonic=lambda: next(moments)
    ).read()

    assert len(result.namespaces) == 1
    assert "some were not read" in result.faults["Pods"]


@needs_driver_ioctls
def test_statistics_and_speed_of_a_link_come_from_its_driver(
    link: Link, executor: NetnsExecutor
) -> None:
    with (
        NetworkNamespace.open(link.station().netns) as namespace,
        executor.socket(namespace, socket.AF_INET, socket.SOCK_DGRAM, 0) as inside,
    ):
        assert ethtool.statistics(inside, "eth0")["peer_ifindex"] > 0
        assert ethtool.speed_mbps(inside, "eth0") == 10_000
        for read_value in (ethtool.statistics, ethtool.speed_mbps, ethtool.bus_address):
            with pytest.raises(OSError, match="No such device"):
                read_value(inside, "eth9")
            with pytest.raises(OSError, match="is not an interface name"):
                read_value(inside, "x" * 16)
