"""RDMA devices that many Pods of a node share. Pure.

A rule is an item in the configuration of the RDMA shared device plugin. The caller passes the RDMA
devices in the node's network namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

RULES_MAX: Final = 64

SELECTOR_VALUES_MAX: Final = 256
"""Values in one selector."""


class RdmaSelectors(NamedTuple):
    """Conditions for devices: a device must match one value of each non-empty selector.

    ``vendors``, ``devices``: PCI ids, hexadecimal in lower case.
    ``link_types``: ``ether`` or ``infiniband``.
    """

    vendors: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    link_types: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        return not any(self)


class SharedRdmaRule(NamedTuple):
    """A resource of ``slots`` units. All units give access to the same selected devices."""

    resource: str
    slots: int
    selectors: RdmaSelectors


class HostRdmaDevice(NamedTuple):
    """An RDMA device of a node. ``is_active``: a port is up."""

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
    """The devices that a rule selects, in the given order."""
    selectors = rule.selectors
    for device in devices:
        values = (
            (selectors.vendors, {device.vendor}),
            (selectors.devices, {device.device}),
            (selectors.drivers, {device.driver}),
            (selectors.links, set(device.links)),
            (selectors.link_types, {device.link_type}),
        )
        if all(not allowed or not actual.isdisjoint(allowed) for allowed, actual in values):
            yield device
