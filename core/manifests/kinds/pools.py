"""SpiderIPPool, SpiderSubnet and SpiderReservedIP: the user's spec and the reported status.

Orbweaver writes ``status`` from the event log; the manifest parser ignores ``status``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Struct, field

from core.manifests.kinds.addresses import (
    IMMUTABLE_FAMILY_RULE,
    ITEMS_MAX,
    ExcludedIps,
    Gateway,
    Ips,
    IpVersion,
    Item,
    Routes,
    SubnetText,
    for_both_ends,
)
from core.manifests.kinds.fields import (
    NAME_CHARS_MAX,
    NAMES_MAX,
    Conditions,
    Int64,
    SelectorSpec,
    StrictMetadata,
    ValidationRule,
    described,
)

Vlan = Annotated[
    Int64 | None,
    described("Deprecated in Spiderpool 1.0; accepted without effect.", format="int64"),
]
Names = list[Annotated[str, described("A name.", maxLength=NAME_CHARS_MAX)]]
COUNT_SCHEMA = {"format": "int64", "minimum": 0}

SELECTOR_OPERATORS_RULE: Final = ValidationRule(
    "!has(self.matchExpressions) || self.matchExpressions.all(item,"
    " item.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])",
    "an operator is In, NotIn, Exists or DoesNotExist",
)


class SubnetSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderSubnet."""

    subnet: SubnetText
    ip_version: IpVersion = None
    ips: Ips = None
    exclude_ips: ExcludedIps = field(default=None, name="excludeIPs")
    gateway: Gateway = None
    routes: Routes = None
    vlan: Vlan = None


class PoolSpec(SubnetSpec, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderIPPool: the fields of a subnet, and which Pods may use the pool."""

    pod_affinity: Annotated[
        SelectorSpec | None,
        described(
            "The Pods that may use the pool, by their labels.",
            rules=(SELECTOR_OPERATORS_RULE,),
            **{"x-kubernetes-map-type": "atomic"},
        ),
    ] = None
    namespace_affinity: Annotated[
        SelectorSpec | None,
        described(
            "The namespaces that may use the pool, by label. Ignored if namespaceName is set."
        ),
    ] = None
    namespace_name: Annotated[
        Names | None, described("The namespaces that may use the pool.", maxItems=NAMES_MAX)
    ] = None
    node_affinity: Annotated[
        SelectorSpec | None,
        described(
            "The nodes whose Pods may use the pool, by their labels. Ignored if nodeName is set."
        ),
    ] = None
    node_name: Annotated[
        Names | None, described("The nodes whose Pods may use the pool.", maxItems=NAMES_MAX)
    ] = None
    multus_name: Annotated[
        Names | None,
        described(
            "The NetworkAttachmentDefinitions whose interfaces may use the pool,"
            " as namespace/name or name.",
            maxItems=NAMES_MAX,
        ),
    ] = None
    default: Annotated[
        bool | None,
        described("Whether Pods that request no pool may use this one.", default=False),
    ] = None
    disable: Annotated[
        bool | None,
        described(
            "Whether new allocations are disabled. Allocated addresses stay allocated.",
            default=False,
        ),
    ] = None


class PoolReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderIPPool."""

    allocated_ips: Annotated[
        str | None,
        described(
            "The allocated addresses, as JSON by address: the Pod as namespace/name and its UID."
            " Absent if no address is allocated."
        ),
    ] = field(default=None, name="allocatedIPs")
    total_ip_count: Annotated[
        int | None, described("The number of addresses in ips without excludeIPs.", **COUNT_SCHEMA)
    ] = field(default=None, name="totalIPCount")
    allocated_ip_count: Annotated[
        int | None, described("The number of allocated addresses.", **COUNT_SCHEMA)
    ] = field(default=None, name="allocatedIPCount")
    conditions: Conditions = None


class SubnetReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderSubnet."""

    controlled_ip_pools: Annotated[
        str | None,
        described(
            "The pools of the subnet, as JSON by pool: its addresses, and for an automatic pool its"
            " application. Absent without pools."
        ),
    ] = field(default=None, name="controlledIPPools")
    total_ip_count: Annotated[
        int | None, described("The number of addresses in ips without excludeIPs.", **COUNT_SCHEMA)
    ] = field(default=None, name="totalIPCount")
    allocated_ip_count: Annotated[
        int | None, described("The number of addresses in pools.", **COUNT_SCHEMA)
    ] = field(default=None, name="allocatedIPCount")
    conditions: Conditions = None


class ReservationSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SpiderReservedIP."""

    ip_version: IpVersion = None
    ips: Annotated[
        list[Item] | None,
        described("Addresses that no pool of the IP version allocates.", maxItems=ITEMS_MAX),
    ] = None


RESERVATION_RULES: Final = (
    IMMUTABLE_FAMILY_RULE,
    ValidationRule(
        "has(self.ipVersion) || (has(self.ips) && size(self.ips) > 0)",
        "needs ipVersion, or ips to derive it from",
    ),
    ValidationRule(
        "!has(self.ipVersion) || !has(self.ips) || self.ips.all(item, "
        + for_both_ends("item", "!isIP({0}) || ip({0}).family() == self.ipVersion")
        + ")",
        "ips must be of the IP version that ipVersion names",
    ),
)


class ReservationReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderReservedIP; Spiderpool has no status for this kind."""

    conditions: Conditions = None


class CustomResource(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """The fields that the manifests of all three kinds have."""

    api_version: str
    kind: str
    metadata: StrictMetadata


class PoolManifest(CustomResource, frozen=True):
    """A SpiderIPPool."""

    spec: PoolSpec
    status: Any = None


class SubnetManifest(CustomResource, frozen=True):
    """A SpiderSubnet."""

    spec: SubnetSpec
    status: Any = None


class ReservationManifest(CustomResource, frozen=True):
    """A SpiderReservedIP."""

    spec: ReservationSpec
    status: Any = None
