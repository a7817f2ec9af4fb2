"""The virtual functions of each resource that the device plugin advertises."""

from __future__ import annotations

from core.domain.sriov.model import (
    VFIO,
    NicName,
    NicSelector,
    NodePolicy,
    PhysicalFunction,
    VfRange,
    VirtualFunction,
)
from core.domain.sriov.resources import VfDevice, vf_devices
from core.domain.sriov.vf_plan import DesiredNic, VfGroup, plan_node

NIC = PhysicalFunction(
    "ens1f0",
    address="0000:3b:00.0",
    has_carrier=True,
    vfs=(
        VirtualFunction(
            0,
            address="0000:3b:00.2",
            driver="mlx5_core",
            link="ens1f0v0",
            numa_node=1,
            rdma=("mlx5_2",),
        ),
        VirtualFunction(1, address="0000:3b:00.3", driver="mlx5_core", is_used=True),
        VirtualFunction(2, address="0000:3b:00.4", driver="mlx5_core", iommu_group="42"),
        VirtualFunction(3, address="0000:3b:00.5", driver=VFIO, iommu_group="43"),
    ),
)


def desired(*groups: VfGroup) -> DesiredNic:
    return DesiredNic(NIC.name, NIC.address, vfs=4, groups=groups)


def test_a_device_has_the_fields_of_its_nic_its_group_and_its_virtual_function() -> None:
    group = VfGroup("rail", policy="p", vfs=VfRange(0, last=0), is_rdma=True, exclude_topology=True)

    assert vf_devices([desired(group)], [NIC]) == {
        "rail": (
            VfDevice(
                resource="rail",
                policy="p",
                address="0000:3b:00.2",
                driver="mlx5_core",
                device_type="netdevice",
                pf="ens1f0",
                pf_address="0000:3b:00.0",
                number=0,
                link="ens1f0v0",
                numa_node=1,
                rdma=("mlx5_2",),
                link_type="eth",
                is_rdma=True,
                exclude_topology=True,
                has_carrier=True,
                is_ready=True,
            ),
        )
    }


def test_a_virtual_function_that_a_pod_uses_stays_in_its_resource() -> None:
    devices = vf_devices([desired(VfGroup("rail", policy="p", vfs=VfRange(0, last=1)))], [NIC])

    assert [device.number for device in devices["rail"]] == [0, 1]


def test_a_virtual_function_is_ready_only_with_the_driver_of_its_policy() -> None:
    groups = (
        VfGroup("dpdk", policy="p", vfs=VfRange(2, last=3), device_type=VFIO),
        VfGroup("unbound", policy="p", vfs=VfRange(0, last=0)),
    )
    unbound_nic = NIC._replace(vfs=(NIC.vfs[0]._replace(driver=""), *NIC.vfs[1:]))

    devices = vf_devices([desired(*groups)], [unbound_nic])

    assert [device.is_ready for device in devices["dpdk"]] == [False, True]
    assert [device.is_ready for device in devices["unbound"]] == [False]


def test_a_resource_of_several_nics_is_ordered_by_address() -> None:
    second_nic = NIC._replace(
        name="ens1f1",
        address="0000:2a:00.0",
        vfs=(VirtualFunction(0, address="0000:2a:00.2", driver="mlx5_core"),),
    )
    group = VfGroup("rail", policy="p", vfs=VfRange(0, last=0))
    nics = [desired(group), DesiredNic(second_nic.name, second_nic.address, vfs=1, groups=(group,))]

    devices = vf_devices(nics, [NIC, second_nic])

    assert [device.pf for device in devices["rail"]] == ["ens1f1", "ens1f0"]


def test_a_virtual_function_that_a_policy_selects_twice_is_one_device() -> None:
    names = (NicName(NIC.name, VfRange(2, 3)), NicName(NIC.name, VfRange(0, 2)))
    policy = NodePolicy("p", "rail", vfs=4, nics=NicSelector(names))
    nics = [NIC._replace(vfs_max=4)]
    plan = plan_node([policy], {}, nics)

    assert plan.refusals == ()
    assert [device.number for device in vf_devices(plan.desired, nics)["rail"]] == [0, 1, 2, 3]


def test_a_resource_without_virtual_functions_is_empty() -> None:
    group = VfGroup("rail", policy="p", vfs=VfRange(0, last=1))

    assert vf_devices([desired(group)], [NIC._replace(vfs=())]) == {"rail": ()}
    assert vf_devices([desired(group)], []) == {"rail": ()}
