"""Services and their endpoints, as far as a ClusterIP goes; the words are Kubernetes'."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.addresses.ip_address import Family


class ServicePort(NamedTuple):
    """A port of a Service or of its endpoints; ``name`` is what makes them the same."""

    port: int
    protocol: str = "TCP"
    name: str = ""


class Service(NamedTuple):
    """``addresses``: its ClusterIPs, none for a headless one.

    ``affinity_s``: how long a client stays with a backend, 0 for not at all. ``local``: only
    backends on the client's node.
    """

    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    affinity_s: int = 0
    local: bool = False


class SliceEndpoint(NamedTuple):
    """Who is behind a Service, as one of its Pods says."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""


class EndpointSlice(NamedTuple):
    """Some of the endpoints of ``service``, all of one family."""

    service: str
    family: Family
    ports: tuple[ServicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()
