"""The virtual functions of each extended resource of a node, for the device plugin. Pure.

Virtual functions that Pods use are included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from core.domain.sriov.model import VFIO, PhysicalFunction, VirtualFunction
from core.domain.sriov.vf_plan import DesiredNic, VfGroup


class VfDevice(NamedTuple):
    """A virtual function of a resource. ``address``: the PCI address.

    ``link``, ``rdma``: interface and RDMA devices in the node's network namespace.
    ``is_rdma``: the policy requires an RDMA device.
    ``is_ready``: the driver has the type that the policy requires.
    """

    resource: str
    policy: str
    address: str
    driver: str
    device_type: str
    pf: str
    pf_address: str
    number: int
    link: str = ""
    numa_node: int = -1
    rdma: tuple[str, ...] = ()
    iommu_group: str = ""
    link_type: str = ""
    is_rdma: bool = False
    exclude_topology: bool = False
    has_carrier: bool = False
    is_ready: bool = False


def vf_devices(
    desired: Iterable[DesiredNic], nics: Iterable[PhysicalFunction]
) -> Mapping[str, tuple[VfDevice, ...]]:
    """Resource -> existing virtual functions, sorted by PCI address.

    A resource without virtual functions is in the result, so that the resource stays registered
    while virtual functions are created.
    """
    by_address = {nic.address: nic for nic in nics}
    devices: dict[str, list[VfDevice]] = {}
    for target in desired:
        nic = by_address.get(target.address)
        for group in target.groups:
            of_resource = devices.setdefault(group.resource, [])
            if nic is not None:
                of_resource += _group_devices(nic, group)
    return {
        resource: tuple(sorted(of_resource, key=lambda device: device.address))
        for resource, of_resource in sorted(devices.items())
    }


def _group_devices(nic: PhysicalFunction, group: VfGroup) -> Iterator[VfDevice]:
    for vf in nic.vfs:
        if group.vfs.first <= vf.number <= group.vfs.last:
            yield VfDevice(
                resource=group.resource,
                policy=group.policy,
                address=vf.address,
                driver=vf.driver,
                device_type=group.device_type,
                pf=nic.name,
                pf_address=nic.address,
                number=vf.number,
                link=vf.link,
                numa_node=vf.numa_node,
                rdma=vf.rdma,
                iommu_group=vf.iommu_group,
                link_type=nic.link_type,
                is_rdma=group.is_rdma,
                exclude_topology=group.exclude_topology,
                has_carrier=nic.has_carrier,
                is_ready=_is_ready(vf, group),
            )


def _is_ready(vf: VirtualFunction, group: VfGroup) -> bool:
    return bool(vf.driver) and (vf.driver == VFIO) == (group.device_type == VFIO)
