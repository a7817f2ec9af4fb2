"""Computes frontends and their backends from Services and EndpointSlices. Pure.

The rules are kube-proxy's: if no endpoint is ready, terminating endpoints that still serve are the
backends. NodePorts and external addresses are not served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family, format_address, parse_address
from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint

OTHER_PROXY_LABEL: Final = "service.kubernetes.io/service-proxy-name"
"""The label of a Service that another proxy serves."""

PROTOCOLS: Final = {"TCP": 6, "UDP": 17}
"""IP protocol numbers of the protocols that have BPF hooks (SCTP has no hook)."""

IPV4_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"


class TransportAddress(NamedTuple):
    """A port, and an address of 16 bytes: IPv6, or IPv4 mapped into IPv6."""

    address: bytes
    port: int

    def __str__(self) -> str:
        text = address_text(self.address)
        return f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"


class Frontend(NamedTuple):
    """A Service's address (16 bytes) and port. ``protocol``: the IP protocol number."""

    address: bytes
    port: int
    protocol: int


class BackendGroup(NamedTuple):
    """The backends of a frontend. ``affinity_s``: seconds of client affinity; 0: none."""

    backends: tuple[TransportAddress, ...] = ()
    affinity_s: int = 0


def frontends_of(
    service: Service, labels: Mapping[str, str], slices: Sequence[EndpointSlice], node: str
) -> dict[Frontend, BackendGroup]:
    """The frontends of one Service on this node."""
    if OTHER_PROXY_LABEL in labels:
        return {}
    groups = {}
    for text in service.addresses:
        address = parse_address(text)
        for port in service.ports:
            protocol = PROTOCOLS.get(port.protocol)
            if protocol is None:
                continue
            backends = _backends(service, port, address.family, slices, node)
            frontend = Frontend(address_bytes(text), port.port, protocol)
            groups[frontend] = BackendGroup(tuple(sorted(set(backends))), service.affinity_s)
    return groups


def address_bytes(text: str) -> bytes:
    """Encode an address as 16 bytes. IPv4 is mapped into IPv6."""
    family, value = parse_address(text)
    return (
        IPV4_MAPPED_PREFIX + value.to_bytes(4, "big") if family == 4 else value.to_bytes(16, "big")
    )


def address_text(address: bytes) -> str:
    """Decode an address of 16 bytes."""
    if address.startswith(IPV4_MAPPED_PREFIX):
        return format_address(4, int.from_bytes(address[12:], "big"))
    return format_address(6, int.from_bytes(address, "big"))


def _backends(
    service: Service,
    port: ServicePort,
    family: Family,
    slices: Sequence[EndpointSlice],
    node: str,
) -> Iterator[TransportAddress]:
    endpoints = [
        (endpoint, slice_port.port)
        for slice_ in slices
        if slice_.family == family
        for slice_port in slice_.ports
        if (slice_port.name, slice_port.protocol) == (port.name, port.protocol)
        for endpoint in slice_.endpoints
        if not service.local or endpoint.node == node
    ]
    ready_endpoints = [
        (endpoint, port_number) for endpoint, port_number in endpoints if endpoint.ready
    ]
    draining_endpoints = [
        (endpoint, port_number) for endpoint, port_number in endpoints if _is_draining(endpoint)
    ]
    for endpoint, port_number in ready_endpoints or draining_endpoints:
        for address in endpoint.addresses:
            yield TransportAddress(address_bytes(address), port_number)


def _is_draining(endpoint: SliceEndpoint) -> bool:
    return endpoint.serving and endpoint.terminating
