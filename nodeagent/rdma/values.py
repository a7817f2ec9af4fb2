"""What is read of RDMA devices, and what is known of the Pods that have them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from core.domain.model import Owner

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class RdmaPortLink(NamedTuple):
    """One port of an RDMA device, and the link that it speaks over.

    GUIDs are numbers whose highest byte is written first. ``counters`` are the kernel's,
    ``statistics`` those of the link's driver. None is what nobody tells; ``parent`` "" too: no
    virtual function's.
    """

    device: str
    link: str
    node_guid: int
    system_guid: int
    counters: Mapping[str, int] = NOTHING
    statistics: Mapping[str, int] = NOTHING
    speed_mbps: int | None = None
    traffic_class: int | None = None
    parent: str = ""

    @property
    def is_root(self) -> bool:
        """Whether it is the card's own device, and no virtual function's."""
        return self.node_guid == self.system_guid


class NamespacePorts(NamedTuple):
    """The ports in one network namespace. ``address`` is its Pod's, "" on the node itself."""

    ports: tuple[RdmaPortLink, ...]
    address: str = ""


class Tenant(NamedTuple):
    """A Pod with RDMA devices of its own. ``owner`` None: it has none, or nobody may read that."""

    namespace: str
    name: str
    owner: Owner | None = None


Tenants = Mapping[str, Tenant]
"""By each of their addresses."""
