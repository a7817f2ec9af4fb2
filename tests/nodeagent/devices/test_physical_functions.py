"""Physical functions are read from /sys; uplinks are the NICs that carry the node's own traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.addresses.ip_address import parse_cidr
from core.domain.sriov.model import INFINIBAND, PhysicalFunction, VirtualFunction
from nodeagent.devices.physical_functions import physical_functions, uplinks_of
from nodeagent.netlink.values import Hop, KernelRoute, Link
from tests.nodeagent.devices.sys_tree import SysTree
from tests.nodeagent.sriov.cards import Card

PF = "0000:3b:00.0"


def card(tree: SysTree) -> Path:
    return tree.device(PF, vendor="0x15b3", device="0x1017", sriov_totalvfs="16", sriov_numvfs="4")


def test_a_card_is_read_with_its_virtual_functions(tmp_path: Path) -> None:
    tree = SysTree(tmp_path)
    device = card(tree)
    tree.link("ens1f0", device, address="0c:42:a1:00:00:01", mtu="9000", type="1")
    first = tree.vf(device, 0, "0000:3b:00.2", "mlx5_core")
    tree.link("ens1f0v0", first, address="02:00:00:00:00:07", mtu="1500")
    tree.vf(device, 1, "0000:3b:00.3", "vfio-pci")
    tree.vf(device, 2, "0000:3b:00.4", "mlx5_core")  # its link is in a Pod
    tree.vf(device, 3, "0000:3b:00.5", "")
    tree.link("lo", None, mtu="65536")
    tree.link("eno1", tree.device("0000:01:00.0", vendor="0x8086"))

    assert physical_functions((), tmp_path) == (
        PhysicalFunction(
            "ens1f0",
            PF,
            vendor="15b3",
            device="1017",
            mac="0c:42:a1:00:00:01",
            mtu=9_000,
            vfs_max=16,
            vfs=(
                VirtualFunction(
                    0,
                    "0000:3b:00.2",
                    "mlx5_core",
                    link="ens1f0v0",
                    mac="02:00:00:00:00:07",
                    mtu=1_500,
                ),
                VirtualFunction(1, "0000:3b:00.3", "vfio-pci"),
                VirtualFunction(2, "0000:3b:00.4", "mlx5_core", is_used=True),
                VirtualFunction(3, "0000:3b:00.5"),
            ),
        ),
    )


def test_carrier_numa_node_iommu_group_and_rdma_device_are_read(tmp_path: Path) -> None:
    tree = SysTree(tmp_path)
    device = card(tree)
    tree.link("ens1f0", device, mtu="1500", carrier="1")
    (device / "infiniband/mlx5_0").mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    vf = tree.vf(device, 0, "0000:3b:00.2", "vfio-pci")
    (vf / "numa_node").write_text("1\n")
    (tree.root / "kernel/iommu_groups/42").mkdir(parents=True)
    (vf / "iommu_group").symlink_to(tree.root / "kernel/iommu_groups/42")

    (nic,) = physical_functions((), tmp_path)

    assert (nic.has_carrier, nic.numa_node, nic.rdma) == (True, 1, ("mlx5_0",))
    assert (nic.vfs[0].iommu_group, nic.vfs[0].numa_node, nic.vfs[0].rdma) == ("42", 1, ())


def test_the_mac_of_an_infiniband_card_is_its_guid(tmp_path: Path) -> None:
    tree = SysTree(tmp_path)
    guid = "0c:42:a1:03:00:16:05:48"
    address = f"00:00:10:49:fe:80:00:00:00:00:00:00:{guid}"
    tree.link("ibs1", card(tree), address=address, mtu="2044", type="32")

    (nic,) = physical_functions((), tmp_path)

    assert (nic.mac, nic.link_type) == (guid, INFINIBAND)


def test_two_ports_behind_one_pci_device_are_one_card(tmp_path: Path) -> None:
    tree = Card(tmp_path / "sys", "connectx3-two-ports")

    (nic,) = physical_functions(["ib1"], tree.root)

    assert (nic.name, nic.address, nic.rdma) == ("ib0", "0000:82:00.0", ("mlx4_0",))
    assert nic.mac == "00:02:c9:03:00:f9:bf:a1"
    assert (nic.is_uplink, nic.has_carrier) == (True, True), "because of the second port, ib1"


@pytest.mark.parametrize("name", ["pf0vf3", "c1pf0vf3", "pf0sf88", "pf1", "c1pf0"])
def test_representors_and_subfunctions_are_not_cards(tmp_path: Path, name: str) -> None:
    tree = SysTree(tmp_path)
    device = card(tree)
    tree.link("ens1f0np0", device, mtu="1500", phys_port_name="p0", dev_port="0")
    tree.link("eno1", device, mtu="1500", phys_port_name=name, dev_port="0")

    (nic,) = physical_functions((), tmp_path)

    assert nic.name == "ens1f0np0"


def test_a_card_is_an_uplink_if_its_link_or_vf_is_an_uplink(tmp_path: Path) -> None:
    tree = SysTree(tmp_path)
    device = card(tree)
    tree.link("ens1f0", device, mtu="1500")
    tree.link("ens1f0v0", tree.vf(device, 0, "0000:3b:00.2", "mlx5_core"), mtu="1500")

    cards = [physical_functions(uplinks, tmp_path)[0] for uplinks in ([], ["ens1f0"], ["ens1f0v0"])]

    assert [card.is_uplink for card in cards] == [False, True, True]


def test_uplinks_are_the_links_of_default_routes_and_all_links_below() -> None:
    links = [
        Link(1, "lo"),
        Link(2, "ens1f0", master=4),
        Link(3, "ens1f1", master=4),
        Link(4, "bond0", kind="bond"),
        Link(5, "bond0.7", kind="vlan", parent=4),
        Link(6, "rail0"),
        Link(7, "veth0", kind="veth", parent=6, parent_netns=1),
    ]
    default_network, rack_network = parse_cidr("0.0.0.0/0"), parse_cidr("10.0.0.0/8")

    by_vlan = uplinks_of(links, [KernelRoute(default_network, 5), KernelRoute(rack_network, 6)])
    by_hops = uplinks_of(links, [KernelRoute(default_network, hops=(Hop(6), Hop(7)))])

    assert by_vlan == {"bond0.7", "bond0", "ens1f0", "ens1f1"}
    by_index = uplinks_of(links, [KernelRoute(rack_network, 6)], uplink_indexes=[5])
    assert by_index == by_vlan
    assert by_hops == {"rail0", "veth0"}
    assert uplinks_of(links, [KernelRoute(rack_network, 6)]) == set()
