"""Services and their endpoints, with the fields that ClusterIPs need."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.addresses.ip_address import Family


class ServicePort(NamedTuple):
    """A port of a Service or EndpointSlice. Ports with equal ``name`` belong together."""

    port: int
    protocol: str = "TCP"
    name: str = ""


class Service(NamedTuple):
    """A Service. ``addresses``: the ClusterIPs; empty if it is headless.

    ``affinity_s``: seconds for which a client keeps its backend; 0: no session affinity.
    ``local``: use only backends on the client's node.
    """

    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    affinity_s: int = 0
    local: bool = False


class SliceEndpoint(NamedTuple):
    """One endpoint of an EndpointSlice, usually a Pod."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""


class EndpointSlice(NamedTuple):
    """Some of the endpoints of ``service``."""

    service: str
    family: Family
    ports: tuple[ServicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()
