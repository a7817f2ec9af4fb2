"""The six CustomResourceDefinitions (docs/reference/custom-resource-rules.md, "Kinds").

They equal Spiderpool's, except for additions such as CEL rules and ``status.conditions``.
``helm.sh/resource-policy: keep`` keeps the CRDs, and therefore all pools, when the chart is
uninstalled.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.manifests.crds.structural import Schema, schema_of
from core.manifests.kinds.addresses import POOL_AND_SUBNET_RULES
from core.manifests.kinds.coordinators import (
    SPIDER_COORDINATOR_RULES,
    CoordinatorReport,
    CoordinatorSpec,
)
from core.manifests.kinds.endpoints import EndpointReport
from core.manifests.kinds.fields import API_VERSION, CEL_RULES, ValidationRule
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

CATEGORY: Final = "spiderpool"
WIDE_PRIORITY: Final = 10
"""``kubectl get`` shows columns of this priority only with ``-o wide``."""


class PrinterColumn(NamedTuple):
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_schema(self) -> Schema:
        """The column as part of a CRD."""
        column: Schema = {"jsonPath": self.path, "name": self.name, "type": self.type}
        return column | ({"priority": self.priority} if self.priority else {})


class CustomResourceKind(NamedTuple):
    """The names and schemas of one kind."""

    name: str
    short_name: str
    description: str
    spec: Schema | None
    status: Schema | None
    columns: tuple[PrinterColumn, ...] = ()
    selectable: tuple[str, ...] = ()
    namespaced: bool = False
    status_subresource: bool = True
    required: tuple[str, ...] = ("spec",)
    api_version: str = API_VERSION
    categories: tuple[str, ...] = (CATEGORY,)

    @property
    def singular(self) -> str:
        """Such as ``spiderippool``."""
        return self.name.lower()

    @property
    def plural(self) -> str:
        """Such as ``spiderippools`` or ``sriovnetworknodepolicies``."""
        stem = self.singular.removesuffix("y")
        return f"{stem}ies" if stem != self.singular else f"{stem}s"

    @property
    def group(self) -> str:
        """Such as ``spiderpool.spidernet.io``."""
        return self.api_version.partition("/")[0]

    @property
    def version(self) -> str:
        """Such as ``v2beta1``."""
        return self.api_version.partition("/")[2]


_NETWORK_COLUMNS: Final = (
    PrinterColumn("VERSION", ".spec.ipVersion", "string"),
    PrinterColumn("SUBNET", ".spec.subnet"),
    PrinterColumn("ALLOCATED-IP-COUNT", ".status.allocatedIPCount", "integer"),
    PrinterColumn("TOTAL-IP-COUNT", ".status.totalIPCount", "integer"),
)
_FIRST_NIC: Final = ".status.current.ips[0]"
_FULL_SOON: Final = '.status.conditions[?(@.type=="FullSoon")].reason'
_APP_NAMESPACE: Final = r".spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace']"


def _with_rules(schema: Schema, rules: tuple[ValidationRule, ...]) -> Schema:
    items = [{"rule": rule.expression, "message": rule.message} for rule in rules]
    return schema | {CEL_RULES: items}


CUSTOM_RESOURCE_KINDS: Final = (
    CustomResourceKind(
        name="SpiderIPPool",
        short_name="sp",
        description="A pool of addresses for Pods.",
        spec=_with_rules(
            schema_of(PoolSpec, "The addresses of the pool, and which Pods may use it."),
            POOL_AND_SUBNET_RULES,
        ),
        status=schema_of(PoolReport, "The allocated addresses of the pool, as a report."),
        columns=(
            *_NETWORK_COLUMNS,
            PrinterColumn("DEFAULT", ".spec.default", "boolean"),
            PrinterColumn("DISABLE", ".spec.disable", "boolean", WIDE_PRIORITY),
            PrinterColumn("NodeName", ".spec.nodeName", priority=WIDE_PRIORITY),
            PrinterColumn("MultusName", ".spec.multusName", priority=WIDE_PRIORITY),
            PrinterColumn("APP-NAMESPACE", _APP_NAMESPACE, priority=WIDE_PRIORITY),
            PrinterColumn("FULL", _FULL_SOON, priority=WIDE_PRIORITY),
        ),
        selectable=(".spec.subnet", ".spec.ipVersion", ".spec.default", ".spec.disable"),
    ),
    CustomResourceKind(
        name="SpiderSubnet",
        short_name="ss",
        description="The addresses of one CIDR, which its pools divide among themselves.",
        spec=_with_rules(
            schema_of(SubnetSpec, "The addresses of the subnet."), POOL_AND_SUBNET_RULES
        ),
        status=schema_of(SubnetReport, "The pools of the subnet, as a report."),
        columns=_NETWORK_COLUMNS,
        selectable=(".spec.subnet", ".spec.ipVersion"),
    ),
    CustomResourceKind(
        name="SpiderReservedIP",
        short_name="sr",
        description="Addresses that no pool allocates.",
        spec=_with_rules(schema_of(ReservationSpec, "The reserved addresses."), RESERVATION_RULES),
        status=schema_of(ReservationReport, "Whether the reservation is applied, as a report."),
        columns=(PrinterColumn("VERSION", ".spec.ipVersion"),),
        selectable=(".spec.ipVersion",),
    ),
    CustomResourceKind(
        name="SpiderEndpoint",
        short_name="se",
        description="The addresses of one Pod or virtual machine, as a report.",
        spec=None,
        # Without ``atomic``, creates are slow: managedFields would list each field of the status.
        status=schema_of(EndpointReport, "Interfaces, addresses and owner.")
        | {"x-kubernetes-map-type": "atomic"},
        columns=(
            PrinterColumn("INTERFACE", f"{_FIRST_NIC}.interface"),
            PrinterColumn("IPV4POOL", f"{_FIRST_NIC}.ipv4Pool"),
            PrinterColumn("IPV4", f"{_FIRST_NIC}.ipv4"),
            PrinterColumn("IPV6POOL", f"{_FIRST_NIC}.ipv6Pool"),
            PrinterColumn("IPV6", f"{_FIRST_NIC}.ipv6"),
            PrinterColumn("NODE", ".status.current.node"),
        ),
        selectable=(".status.current.node", ".status.current.uid"),
        namespaced=True,
        status_subresource=False,
        required=(),
    ),
    CustomResourceKind(
        name="SpiderMultusConfig",
        short_name="smc",
        description="A network of Multus; its NetworkAttachmentDefinition is created from it.",
        spec=_with_rules(
            schema_of(MultusConfigSpec, "The configuration of the network's interfaces."),
            MULTUS_RULES,
        ),
        status=None,
        selectable=(".spec.cniType",),
        namespaced=True,
        status_subresource=False,
        required=(),
    ),
    CustomResourceKind(
        name="SpiderCoordinator",
        short_name="scc",
        description="The settings of the coordinator plugin for the whole cluster.",
        spec=_with_rules(
            schema_of(CoordinatorSpec, "The settings of the coordinator plugin."),
            SPIDER_COORDINATOR_RULES,
        ),
        status=schema_of(CoordinatorReport, "The CIDRs of the cluster, as a report."),
    ),
)


def definition_of(kind: CustomResourceKind) -> Schema:
    """The CustomResourceDefinition of one kind."""
    names: Schema = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.singular,
    }
    if kind.short_name:
        names["shortNames"] = [kind.short_name]
    if kind.categories:
        names["categories"] = list(kind.categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(kind)],
        },
    }


def _version(kind: CustomResourceKind) -> Schema:
    version: Schema = {"name": kind.version, "served": True, "storage": True}
    if kind.columns:
        version["additionalPrinterColumns"] = [column.to_schema() for column in kind.columns]
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    if kind.status_subresource:
        version["subresources"] = {"status": {}}
    return version | {"schema": {"openAPIV3Schema": _root(kind)}}


def _root(kind: CustomResourceKind) -> Schema:
    properties: Schema = {
        "apiVersion": {"description": f"Always {kind.api_version}.", "type": "string"},
        "kind": {"description": f"Always {kind.name}.", "type": "string"},
        "metadata": {"type": "object"},
    }
    for name, part in (("spec", kind.spec), ("status", kind.status)):
        if part is not None:
            properties[name] = part
    root: Schema = {
        "description": kind.description,
        "type": "object",
        "properties": properties,
    }
    return root | ({"required": list(kind.required)} if kind.required else {})
