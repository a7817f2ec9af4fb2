"""RDMA devices that many Pods share: which devices of a node a rule chooses.

A rule is an item of the RDMA shared device plugin's configuration. Values of one selector are
alternatives, selectors that are set must all agree, as that plugin has it. Pure: the devices are
those that the kernel has in the node's own namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

RULES_MAX: Final = 64
SELECTED_MAX: Final = 256
"""Values of one selector."""


class RdmaSelectors(NamedTuple):
    """Which devices; PCI ids are hexadecimal and in lower case.

    ``link_types``: ether, infiniband.
    """

    vendors: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    link_types: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Whether it would choose every device."""
        return not any(self)


class SharedRdmaRule(NamedTuple):
    """A resource with so many shares of the devices that the selectors choose."""

    resource: str
    slots: int
    selectors: RdmaSelectors


class HostRdmaDevice(NamedTuple):
    """An RDMA device of a node. ``is_active``: a port of it has a link that carries traffic."""

    name: str
    vendor: str = ""
    device: str = ""
    driver: str = ""
    links: tuple[str, ...] = ()
    link_type: str = ""
    is_active: bool = False


def chosen_devices(
    rule: SharedRdmaRule, devices: Iterable[HostRdmaDevice]
) -> Iterator[HostRdmaDevice]:
    """The devices of a rule, in their order."""
    selectors = rule.selectors
    for device in devices:
        values = (
            (selectors.vendors, {device.vendor}),
            (selectors.devices, {device.device}),
            (selectors.drivers, {device.driver}),
            (selectors.links, set(device.links)),
            (selectors.link_types, {device.link_type}),
        )
        if all(not allowed or not has.isdisjoint(allowed) for allowed, has in values):
            yield device
