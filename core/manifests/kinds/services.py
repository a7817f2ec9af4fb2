"""Service and EndpointSlice; unknown fields are ignored."""

from __future__ import annotations

from msgspec import Struct

from core.manifests.kinds.fields import Int64
from core.manifests.kinds.records import OpenMetadata


class PortSpec(Struct, rename="camel", frozen=True):
    """A port of a Service or of an EndpointSlice. A port without a number is ignored."""

    port: Int64 | None = None
    name: str | None = None
    protocol: str | None = None


class ClientAffinity(Struct, rename="camel", frozen=True):
    """``clientIP`` of ``sessionAffinityConfig``."""

    timeout_seconds: Int64 | None = None


class AffinityConfig(Struct, rename={"client_ip": "clientIP"}, frozen=True):
    """``sessionAffinityConfig`` of a Service."""

    client_ip: ClientAffinity | None = None


class ServiceSpec(
    Struct,
    rename={
        "cluster_ip": "clusterIP",
        "cluster_ips": "clusterIPs",
        "session_affinity": "sessionAffinity",
        "session_affinity_config": "sessionAffinityConfig",
        "internal_traffic_policy": "internalTrafficPolicy",
    },
    frozen=True,
):
    """``spec`` of a Service."""

    type: str | None = None
    cluster_ip: str | None = None
    cluster_ips: list[str] | None = None
    ports: list[PortSpec] | None = None
    session_affinity: str | None = None
    session_affinity_config: AffinityConfig | None = None
    internal_traffic_policy: str | None = None


class ServiceManifest(Struct, rename="camel", frozen=True):
    """A Service."""

    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: ServiceSpec | None = None


class EndpointConditions(Struct, rename="camel", frozen=True):
    """The conditions of an endpoint. A missing ``ready`` means true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class EndpointSpec(Struct, rename="camel", frozen=True):
    """An endpoint of an EndpointSlice."""

    addresses: list[str]
    conditions: EndpointConditions | None = None
    node_name: str | None = None


class SliceBody(Struct, rename="camel", frozen=True):
    """An EndpointSlice without apiVersion, kind and metadata."""

    address_type: str
    ports: list[PortSpec] | None = None
    endpoints: list[EndpointSpec] | None = None


class SliceManifest(SliceBody, rename="camel", frozen=True, kw_only=True):
    """An EndpointSlice."""

    api_version: str
    kind: str
    metadata: OpenMetadata
