"""Converts Services and EndpointSlices to domain values and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.domain.addresses.ip_address import Family
from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from core.manifests.kinds.services import EndpointSpec, PortSpec, ServiceSpec, SliceBody

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"

AFFINITY_DEFAULT_S: Final = 10_800
"""The default timeout of session affinity, in seconds."""

NO_CLUSTER_IP: Final = ("", "None")
CLIENT_IP_AFFINITY: Final = "ClientIP"
LOCAL_TRAFFIC: Final = "Local"
EXTERNAL_NAME: Final = "ExternalName"

Plain = dict[str, Any]

_FAMILIES: Final[dict[str, Family]] = {"IPv4": 4, "IPv6": 6}


def service_of(spec: ServiceSpec) -> Service:
    """The domain value of a Service. A Service without a ClusterIP has no addresses."""
    addresses = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if spec.type == EXTERNAL_NAME:
        addresses = []
    return Service(
        addresses=tuple(address for address in addresses if address not in NO_CLUSTER_IP),
        ports=_ports(spec.ports),
        affinity_s=_affinity_s(spec),
        local=spec.internal_traffic_policy == LOCAL_TRAFFIC,
    )


def slice_of(body: SliceBody, labels: Mapping[str, str]) -> EndpointSlice | None:
    """The domain value of an EndpointSlice; None if its addressType is FQDN."""
    family = _FAMILIES.get(body.address_type)
    if family is None:
        return None
    endpoints = tuple(map(_endpoint, body.endpoints or ()))
    return EndpointSlice(labels.get(SERVICE_NAME_LABEL, ""), family, _ports(body.ports), endpoints)


def service_fields(service: Service) -> Plain:
    """The ``spec`` of a Service's manifest."""
    spec: Plain = {"clusterIPs": list(service.addresses) or ["None"]}
    spec["ports"] = [_port_fields(port) for port in service.ports]
    if service.affinity_s:
        spec["sessionAffinity"] = CLIENT_IP_AFFINITY
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": service.affinity_s}}
    if service.local:
        spec["internalTrafficPolicy"] = LOCAL_TRAFFIC
    return {"spec": spec}


def slice_fields(slice_: EndpointSlice) -> Plain:
    """The fields of an EndpointSlice's manifest, without ``SERVICE_NAME_LABEL``."""
    return {
        "addressType": f"IPv{slice_.family}",
        "ports": [_port_fields(port) for port in slice_.ports],
        "endpoints": [_endpoint_fields(endpoint) for endpoint in slice_.endpoints],
    }


def _ports(specs: Sequence[PortSpec] | None) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(spec.port, spec.protocol or "TCP", spec.name or "")
        for spec in specs or ()
        if spec.port is not None
    )


def _affinity_s(spec: ServiceSpec) -> int:
    if spec.session_affinity != CLIENT_IP_AFFINITY:
        return 0
    config = spec.session_affinity_config
    timeout_s = config.client_ip.timeout_seconds if config and config.client_ip else None
    return AFFINITY_DEFAULT_S if timeout_s is None else timeout_s


def _endpoint(spec: EndpointSpec) -> SliceEndpoint:
    conditions = spec.conditions
    ready = conditions is None or conditions.ready is not False
    serving = ready if conditions is None or conditions.serving is None else conditions.serving
    terminating = bool(conditions and conditions.terminating)
    return SliceEndpoint(tuple(spec.addresses), ready, serving, terminating, spec.node_name or "")


def _port_fields(port: ServicePort) -> Plain:
    fields: Plain = {"port": port.port, "protocol": port.protocol}
    return fields | ({"name": port.name} if port.name else {})


def _endpoint_fields(endpoint: SliceEndpoint) -> Plain:
    conditions = {
        "ready": endpoint.ready,
        "serving": endpoint.serving,
        "terminating": endpoint.terminating,
    }
    fields: Plain = {"addresses": list(endpoint.addresses), "conditions": conditions}
    return fields | ({"nodeName": endpoint.node} if endpoint.node else {})
