"""The fields of the manifests we read, as typed structs (spec/api.md 1.1 to 1.3).

Our kinds are strict: a field that is not here is an error. Of Pod, Namespace and Node only the
metadata matters and everything else passes. ``null`` means "not given" wherever Kubernetes says so.
Defaults of the schema that have a meaning (``default`` and ``disable`` are false) are filled in
where the domain value is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

API_VERSION: Final = "spiderpool.spidernet.io/v2beta1"
CORE_API_VERSION: Final = "v1"

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class OwnerReference(Struct, rename="camel", frozen=True):
    """Who made the object; other fields are ignored."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None


class OpenMetadata(Struct, rename="camel", frozen=True):
    """Metadata of Pod, Namespace and Node: what we use of it."""

    name: str
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class StrictMetadata(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Metadata of our kinds. What the API server fills in may be there and is not used."""

    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    namespace: Any = None
    generate_name: Any = None
    self_link: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    finalizers: Any = None
    owner_references: Any = None
    managed_fields: Any = None


class ExpressionSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """One requirement of a label selector."""

    key: str
    operator: str
    values: list[str] | None = None


class SelectorSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A Kubernetes label selector."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[ExpressionSpec] | None = None


class RouteSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A route of a pool."""

    dst: str
    gw: str


class PoolSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderIPPool."""

    subnet: str
    ip_version: Int64 | None = None
    ips: list[str] | None = None
    exclude_ips: list[str] | None = field(default=None, name="excludeIPs")
    gateway: str | None = None
    routes: list[RouteSpec] | None = None
    pod_affinity: SelectorSpec | None = None
    namespace_affinity: SelectorSpec | None = None
    namespace_name: list[str] | None = None
    node_affinity: SelectorSpec | None = None
    node_name: list[str] | None = None
    multus_name: list[str] | None = None
    default: bool | None = None
    disable: bool | None = None


class SubnetSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderSubnet."""

    subnet: str
    ip_version: Int64 | None = None
    ips: list[str] | None = None
    exclude_ips: list[str] | None = field(default=None, name="excludeIPs")
    gateway: str | None = None
    routes: list[RouteSpec] | None = None


class ReservationSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderReservedIP."""

    ip_version: Int64 | None = None
    ips: list[str] | None = None


class PoolManifest(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A SpiderIPPool. ``status`` is a report and is not read."""

    api_version: str
    kind: str
    metadata: StrictMetadata
    spec: PoolSpec
    status: Any = None


class SubnetManifest(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A SpiderSubnet. ``status`` is a report and is not read."""

    api_version: str
    kind: str
    metadata: StrictMetadata
    spec: SubnetSpec
    status: Any = None


class ReservationManifest(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A SpiderReservedIP."""

    api_version: str
    kind: str
    metadata: StrictMetadata
    spec: ReservationSpec


class RecordManifest(Struct, rename="camel", frozen=True):
    """A Pod, Namespace or Node: a record of what an operator says of it."""

    api_version: str
    kind: str
    metadata: OpenMetadata


Body = PoolManifest | SubnetManifest | ReservationManifest | RecordManifest

SCHEMAS: Final[dict[str, tuple[str, type[Body]]]] = {
    "SpiderIPPool": (API_VERSION, PoolManifest),
    "SpiderSubnet": (API_VERSION, SubnetManifest),
    "SpiderReservedIP": (API_VERSION, ReservationManifest),
    "Pod": (CORE_API_VERSION, RecordManifest),
    "Namespace": (CORE_API_VERSION, RecordManifest),
    "Node": (CORE_API_VERSION, RecordManifest),
}
"""Kind -> its apiVersion and its fields."""

KINDS_NOT_SUPPORTED: Final = (
    "SpiderCoordinator",
    "SpiderEndpoint",
    "SpiderMultusConfig",
)
"""Kinds of the group that this version does not read."""
