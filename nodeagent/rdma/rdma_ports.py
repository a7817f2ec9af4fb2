"""The ports of RDMA devices, and the Pods that have RDMA devices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from core.domain.model import Owner

NO_COUNTERS: Final[Mapping[str, int]] = MappingProxyType({})


class RdmaPortLink(NamedTuple):
    """A port of an RDMA device, and its link.

    ``counters`` come from the kernel, ``statistics`` from the driver.

    ``parent``: the link of a virtual function's physical function, else "".
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
        """Equal GUIDs mark the first physical function of a card."""
        return self.node_guid == self.system_guid


class NamespacePorts(NamedTuple):
    """The ports in one network namespace.

    ``address``: the address of the namespace's Pod, "" for the node's own namespace.
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
