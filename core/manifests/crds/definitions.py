"""The six CustomResourceDefinitions: names, scope, columns and subresources.

See docs/reference/custom-resource-rules.md, "Kinds".

Beside what the public system has there: descriptions, CEL rules, ``status.conditions`` (a
SpiderReservedIP gets a status for them), and selectable fields. ``resource-policy: keep`` lets no
uninstalled chart take every pool with it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.manifests.crds.structural import Schema, schema_of
from core.manifests.kinds.addresses import NETWORK_RULES
from core.manifests.kinds.coordinators import CLUSTER_RULES, CoordinatorReport, CoordinatorSpec
from core.manifests.kinds.endpoints import EndpointReport
from core.manifests.kinds.fields import API_VERSION, RULES, Rule
from core.manifests.kinds.multus_configs import MULTUS_RULES, MultusConfigSpec
from core.manifests.kinds.pools import (
    RESERVATION_RULES,
    PoolReport,
    PoolSpec,
    ReservationReport,
    ReservationSpec,
    SubnetReport,
    SubnetSpec,
)

GROUP, _, VERSION = API_VERSION.partition("/")
CATEGORY: Final = "spiderpool"
WIDE: Final = 10
"""The priority of columns that only ``-o wide`` shows."""


class Column(NamedTuple):
    """A printer column."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def shown(self) -> Schema:
        """As the API has it."""
        found: Schema = {"jsonPath": self.path, "name": self.name, "type": self.type}
        return found | ({"priority": self.priority} if self.priority else {})


class Kind(NamedTuple):
    """One kind: its names, and the schemas of what is below ``spec`` and ``status``."""

    name: str
    short_name: str
    description: str
    spec: Schema | None
    status: Schema | None
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    namespaced: bool = False
    subresource: bool = True
    required: tuple[str, ...] = ("spec",)

    @property
    def singular(self) -> str:
        """``spiderippool``."""
        return self.name.lower()

    @property
    def plural(self) -> str:
        """``spiderippools``."""
        return f"{self.singular}s"


_NETWORK_COLUMNS: Final = (
    Column("VERSION", ".spec.ipVersion", "string"),
    Column("SUBNET", ".spec.subnet"),
    Column("ALLOCATED-IP-COUNT", ".status.allocatedIPCount", "integer"),
    Column("TOTAL-IP-COUNT", ".status.totalIPCount", "integer"),
)
_FIRST: Final = ".status.current.ips[0]"
_APP_NAMESPACE: Final = r".spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace']"


def _ruled(schema: Schema, rules: tuple[Rule, ...]) -> Schema:
    return schema | {RULES: [{"rule": one.expression, "message": one.message} for one in rules]}


KINDS: Final = (
    Kind(
        "SpiderIPPool",
        "sp",
        "Addresses that Pods get, and which Pods may have them.",
        _ruled(schema_of(PoolSpec, "What the pool holds, and for whom."), NETWORK_RULES),
        schema_of(PoolReport, "What is held of the pool: a report, never read."),
        (
            *_NETWORK_COLUMNS,
            Column("DEFAULT", ".spec.default", "boolean"),
            Column("DISABLE", ".spec.disable", "boolean", WIDE),
            Column("NodeName", ".spec.nodeName", priority=WIDE),
            Column("MultusName", ".spec.multusName", priority=WIDE),
            Column("APP-NAMESPACE", _APP_NAMESPACE, priority=WIDE),
        ),
        (".spec.subnet", ".spec.ipVersion", ".spec.default", ".spec.disable"),
    ),
    Kind(
        "SpiderSubnet",
        "ss",
        "Addresses that the pools of one CIDR share out among themselves.",
        _ruled(schema_of(SubnetSpec, "What the subnet holds."), NETWORK_RULES),
        schema_of(SubnetReport, "What pools have of the subnet: a report, never read."),
        _NETWORK_COLUMNS,
        (".spec.subnet", ".spec.ipVersion"),
    ),
    Kind(
        "SpiderReservedIP",
        "sr",
        "Addresses that no pool hands out.",
        _ruled(schema_of(ReservationSpec, "What is reserved."), RESERVATION_RULES),
        schema_of(ReservationReport, "Whether the reservation is in force: a report, never read."),
        (Column("VERSION", ".spec.ipVersion"),),
        (".spec.ipVersion",),
    ),
    Kind(
        "SpiderEndpoint",
        "se",
        "What one Pod or virtual machine holds: a report, never read.",
        None,
        schema_of(EndpointReport, "Interfaces, addresses and owner."),
        (
            Column("INTERFACE", f"{_FIRST}.interface"),
            Column("IPV4POOL", f"{_FIRST}.ipv4Pool"),
            Column("IPV4", f"{_FIRST}.ipv4"),
            Column("IPV6POOL", f"{_FIRST}.ipv6Pool"),
            Column("IPV6", f"{_FIRST}.ipv6"),
            Column("NODE", ".status.current.node"),
        ),
        (".status.current.node", ".status.current.uid"),
        namespaced=True,
        subresource=False,
        required=(),
    ),
    Kind(
        "SpiderMultusConfig",
        "smc",
        "A network of Multus, from which its NetworkAttachmentDefinition is made.",
        _ruled(
            schema_of(MultusConfigSpec, "How interfaces of the network are made."), MULTUS_RULES
        ),
        None,
        selectable=(".spec.cniType",),
        namespaced=True,
        subresource=False,
        required=(),
    ),
    Kind(
        "SpiderCoordinator",
        "scc",
        "How the traffic of Pods with several interfaces is put in order, cluster-wide.",
        _ruled(schema_of(CoordinatorSpec, "What the coordinator plugin does."), CLUSTER_RULES),
        schema_of(CoordinatorReport, "The CIDRs that were found out: a report, never read."),
    ),
)


def definition_of(kind: Kind) -> Schema:
    """The CustomResourceDefinition of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> Schema:
    found: Schema = {"name": VERSION, "served": True, "storage": True}
    if kind.columns:
        found["additionalPrinterColumns"] = [column.shown() for column in kind.columns]
    if kind.selectable:
        found["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    if kind.subresource:
        found["subresources"] = {"status": {}}
    return found | {"schema": {"openAPIV3Schema": _root(kind)}}


def _root(kind: Kind) -> Schema:
    properties: Schema = {
        "apiVersion": {"description": f"Always {API_VERSION}.", "type": "string"},
        "kind": {"description": f"Always {kind.name}.", "type": "string"},
        "metadata": {"type": "object"},
    }
    for name, part in (("spec", kind.spec), ("status", kind.status)):
        if part is not None:
            properties[name] = part
    found: Schema = {
        "description": kind.description,
        "type": "object",
        "properties": properties,
    }
    return found | ({"required": list(kind.required)} if kind.required else {})
