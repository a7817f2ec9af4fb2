"""The rules of Services and EndpointSlices that users apply in standalone mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.services import EndpointSlice, Service, ServicePort
from core.domain.validation.common_rules import ObjectReference, key_name_rule, shortened
from core.errors import Refusal

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
PORT_MAX: Final = 65_535
AFFINITY_S_MAX: Final = 86_400
"""As in Kubernetes."""

ENDPOINTS_MAX: Final = 1_000
"""As in Kubernetes."""


def service_rules(subject: ObjectReference, service: Service) -> Iterator[Refusal]:
    """ClusterIPs, ports, and the timeout of the session affinity."""
    for address in service.addresses:
        yield from _address(subject, "spec.clusterIPs", address)
    yield from _ports(subject, "spec.ports", service.ports)
    if not 0 <= service.affinity_s <= AFFINITY_S_MAX:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        message = f"{service.affinity_s} is not between 0 and {AFFINITY_S_MAX}"
        yield subject.refuse("Invalid", "service-affinity", field, message)


def slice_rules(subject: ObjectReference, slice_: EndpointSlice) -> Iterator[Refusal]:
    """The name of the Service; the ports and endpoints of the slice."""
    yield from key_name_rule(subject, slice_.service, "metadata.labels[kubernetes.io/service-name]")
    yield from _ports(subject, "ports", slice_.ports)
    if len(slice_.endpoints) > ENDPOINTS_MAX:
        message = f"{len(slice_.endpoints)} endpoints are more than the limit of {ENDPOINTS_MAX}"
        yield subject.refuse("Invalid", "slice-endpoints", "endpoints", message)
        return
    for endpoint in slice_.endpoints:
        for address in endpoint.addresses:
            yield from _address(subject, "endpoints.addresses", address, slice_.family)


def _address(subject: ObjectReference, field: str, text: str, family: int = 0) -> Iterator[Refusal]:
    """The text must be an address of ``family``; 0 permits both families."""
    try:
        parsed = parse_address(text)
    except AddressSyntaxError as error:
        yield subject.refuse("Invalid", "address-syntax", field, str(error))
        return
    if family not in (0, parsed.family):
        message = f"{shortened(text)} is not of addressType IPv{family}"
        yield subject.refuse("Invalid", "slice-family", field, message)


def _ports(subject: ObjectReference, field: str, ports: Sequence[ServicePort]) -> Iterator[Refusal]:
    for port in ports:
        if not 1 <= port.port <= PORT_MAX:
            message = f"{port.port} is not between 1 and {PORT_MAX}"
            yield subject.refuse("Invalid", "service-port", field, message)
        if port.protocol not in PROTOCOLS:
            message = f"{shortened(port.protocol)!r} is not one of {', '.join(PROTOCOLS)}"
            yield subject.refuse("NotSupported", "service-protocol", field, message)
