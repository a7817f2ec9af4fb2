"""The ports of RDMA devices, and the Pods that have RDMA devices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from core.domain.model import Owner

NO_COUNTERS: Final[Mapping[str, int]] = MappingProxyType({})


class RdmaPortLink(NamedTuple):
    """A port of an RDMA device, and its link.

    ``counters`` come from the kernel, ``statistics`` from the driver. ``parent``: if the device is
    a virtual function, the link of its physical function.
    """

    device: str
    link: str
    node_guid: int
    system_guid: int
    counters: Mapping[str, int] = NO_COUNTERS
    statistics: Mapping[str, int] = NO_COUNTERS
    speed_mbps: int | None = None
    traffic_class: int | None = None
    parent: str = ""

    @property
    def is_root(self) -> bool:
        """Whether the device is its card's first physical function: then both GUIDs are equal."""
        return self.node_guid == self.system_guid


class NamespacePorts(NamedTuple):
    """The ports in one network namespace.

    ``address``: the Pod's address; "" if it is unknown, and for the node's own namespace.
    """

    ports: tuple[RdmaPortLink, ...]
    address: str = ""


class RdmaPod(NamedTuple):
    """A Pod with RDMA devices. ``owner`` None: the owner is unknown, or there is none."""

    namespace: str
    name: str
    owner: Owner | None = None


RdmaPods = Mapping[str, RdmaPod]
"""Pods by each of their addresses."""
