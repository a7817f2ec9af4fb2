"""Which virtual functions of a node are which resource, for those that offer them to Pods.

A resource has all virtual functions that policies put into it, on all NICs, including those that
Pods use. Pure: the facts come from the kernel, the groups from the plan of the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from core.domain.sriov.model import VFIO, PhysicalFunction, VirtualFunction
from core.domain.sriov.plan import DesiredNic, VfGroup


class VfDevice(NamedTuple):
    """A virtual function as a resource offers it.

    ``resource`` is the policy's resourceName, without a prefix; ``address`` the PCI address;
    ``is_ready``: it has a driver of the kind that its policy asks for.
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
    """Resource -> its virtual functions that exist, by PCI address.

    ``desired``: of the node's plan. A resource without any is there with no device, so that it
    stays known while its virtual functions are made.
    """
    by_address = {nic.address: nic for nic in nics}
    devices: dict[str, list[VfDevice]] = {}
    for target in desired:
        nic = by_address.get(target.address)
        for group in target.groups:
            of_resource = devices.setdefault(group.resource, [])
            if nic is not None:
                of_resource += _of_group(nic, group)
    return {
        resource: tuple(sorted(found, key=lambda device: device.address))
        for resource, found in sorted(devices.items())
    }


def _of_group(nic: PhysicalFunction, group: VfGroup) -> Iterator[VfDevice]:
    for vf in nic.vfs:
        if group.vfs.first <= vf.number <= group.vfs.last:
            yield VfDevice(
                group.resource,
                group.policy,
                vf.address,
                vf.driver,
                group.device_type,
                nic.name,
                nic.address,
                vf.number,
                vf.link,
                vf.numa_node,
                vf.rdma,
                vf.iommu_group,
                nic.link_type,
                group.is_rdma,
                group.exclude_topology,
                nic.has_carrier,
                _is_ready(vf, group),
            )


def _is_ready(vf: VirtualFunction, group: VfGroup) -> bool:
    return bool(vf.driver) and (vf.driver == VFIO) == (group.device_type == VFIO)
