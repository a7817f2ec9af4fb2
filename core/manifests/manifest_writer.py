"""Writes domain values as manifests, for ``orbctl get``. Parsing one gives an equal value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import yaml

from core.domain.autopools.applications import CRON_JOB, REPLICATED_KINDS
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.coordinators import Coordinator
from core.domain.events import RecordDefined
from core.domain.model import Pool, Reservation, Subnet, Workload
from core.domain.patterns.labels import LabelSelector
from core.domain.subnets.subnet_model import Share
from core.manifests.kinds.fields import API_VERSION
from core.manifests.schemas import MANIFEST_SCHEMAS
from core.manifests.services import service_fields, slice_fields

Plain: TypeAlias = dict[str, object]

_LINE_CHARS_MAX: Final = 2**20
"""YAML folds only longer lines. kubectl's output folds no line."""


class Allocation(NamedTuple):
    """An entry of ``status.allocatedIPs``; ``pod`` is ``namespace/name``."""

    pod: str
    pod_uid: str


class PoolStatus(NamedTuple):
    """The claims of a pool. ``allocations`` maps an address to its Pod."""

    allocated_count: int = 0
    allocations: Mapping[str, Allocation] = {}


class SubnetStatus(NamedTuple):
    """The pools of a subnet."""

    allocated_count: int = 0
    shares: Sequence[Share] = ()


Value: TypeAlias = Pool | Subnet | Reservation | RecordDefined
"""``RecordDefined`` is an object of any other kind, such as a Pod."""


def to_manifest(value: Value, status: PoolStatus | SubnetStatus | None = None) -> Plain:
    """The manifest of a value. ``status`` is used only for pools and subnets."""
    match value:
        case Pool():
            return _pool_manifest(value, status if isinstance(status, PoolStatus) else None)
        case Subnet():
            return _subnet_manifest(value, status if isinstance(status, SubnetStatus) else None)
        case Reservation():
            spec = _non_empty(ipVersion=value.family, ips=list(value.ips))
            return _resource("SpiderReservedIP", value, spec=spec)
        case RecordDefined():
            return _record_manifest(value)


def dump_yaml(values: Iterable[object]) -> str:
    """Plain values, such as manifests, as YAML documents."""
    return yaml.dump_all(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_LINE_CHARS_MAX,
    )


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Write a repeated value again, without a YAML alias."""
        return True


def _metadata(value: Value) -> Plain:
    labels, annotations = dict(value.labels), dict(value.annotations)
    return {"name": value.name} | _non_empty(labels=labels, annotations=annotations)


def _resource(kind: str, value: Value, **parts: Plain) -> Plain:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": _metadata(value), **parts}


def _pool_manifest(pool: Pool, status: PoolStatus | None) -> Plain:
    spec = _common_spec(pool)
    for field, selector in (
        ("podAffinity", pool.pod_affinity),
        ("namespaceAffinity", pool.namespace_affinity),
        ("nodeAffinity", pool.node_affinity),
    ):
        if selector is not None:
            spec[field] = _selector(selector)
    spec |= _non_empty(
        namespaceName=list(pool.namespace_names),
        nodeName=list(pool.node_names),
        multusName=list(pool.multus_names),
    )
    spec |= {"default": pool.default, "disable": pool.disabled}
    if status is None:
        return _resource("SpiderIPPool", pool, spec=spec)
    return _resource("SpiderIPPool", pool, spec=spec, status=_pool_report(pool, status))


def _subnet_manifest(subnet: Subnet, status: SubnetStatus | None) -> Plain:
    spec = _common_spec(subnet)
    if status is None:
        return _resource("SpiderSubnet", subnet, spec=spec)
    report: Plain = {
        "allocatedIPCount": status.allocated_count,
        "totalIPCount": pool_addresses(subnet).clamped_size,
    }
    if status.shares:
        report["controlledIPPools"] = controlled_pools(status.shares)
    return _resource("SpiderSubnet", subnet, spec=spec, status=report)


def controlled_pools(shares: Sequence[Share]) -> str:
    """``status.controlledIPPools`` as JSON text.

    See docs/reference/custom-resource-rules.md, "SpiderSubnet".
    """
    pools = {
        share.pool: {"ips": list(share.ips)} | _non_empty(application=share.application)
        for share in shares
    }
    return msgspec.json.encode(pools, order="sorted").decode()


def _common_spec(value: Pool | Subnet) -> Plain:
    spec: Plain = {"ipVersion": value.family, "subnet": value.subnet}
    spec |= _non_empty(
        ips=list(value.ips), excludeIPs=list(value.exclude_ips), gateway=value.gateway
    )
    if value.routes is not None:
        spec["routes"] = [{"dst": route.dst, "gw": route.gw} for route in value.routes]
    return spec


def _pool_report(pool: Pool, status: PoolStatus) -> Plain:
    """See docs/reference/custom-resource-rules.md, "SpiderIPPool"."""
    report: Plain = {
        "allocatedIPCount": status.allocated_count,
        "totalIPCount": pool_addresses(pool).clamped_size,
    }
    if status.allocations:
        allocated = {
            address: {"pod": allocation.pod, "podUid": allocation.pod_uid}
            for address, allocation in status.allocations.items()
        }
        report["allocatedIPs"] = msgspec.json.encode(allocated, order="sorted").decode()
    return report


def _record_manifest(record: RecordDefined) -> Plain:
    owner = _non_empty(
        apiVersion=record.owner_api_version, kind=record.owner_kind, name=record.owner_name
    )
    metadata = _metadata(record) | _non_empty(
        namespace=record.namespace,
        uid=record.uid,
        ownerReferences=[{**owner, "controller": True}] if owner else [],
    )
    version = record.api_version or MANIFEST_SCHEMAS[record.kind][0]
    manifest: Plain = {"apiVersion": version, "kind": record.kind, "metadata": metadata}
    if record.coordinator is not None:
        return manifest | _coordinator(record.coordinator)
    if record.service is not None:
        return manifest | service_fields(record.service)
    if record.slice is not None:
        return manifest | slice_fields(record.slice)
    return manifest | (_workload(record, record.workload) if record.workload else {})


def _coordinator(coordinator: Coordinator) -> Plain:
    spec = {name: msgspec.json.decode(text) for name, text in coordinator.settings.items()}
    status = _non_empty(
        phase=coordinator.phase,
        reason=coordinator.reason,
        overlayPodCIDR=list(coordinator.overlay_pod_cidr),
        serviceCIDR=list(coordinator.service_cidr),
    )
    return {"spec": spec} | _non_empty(status=status)


def _workload(record: RecordDefined, workload: Workload) -> Plain:
    scale = workload.scale
    numbers = {
        "replicas": record.replicas if record.kind in REPLICATED_KINDS else None,
        "completions": scale.completions,
        "parallelism": scale.parallelism,
    }
    pod = _non_empty(hostNetwork=workload.host_network)
    template = {"metadata": _non_empty(annotations=workload.annotations), "spec": pod}
    spec: Plain = {name: value for name, value in numbers.items() if value is not None}
    spec |= _non_empty(
        ordinals=_non_empty(start=record.ordinals_start), template=_non_empty(**template)
    )
    if record.kind == CRON_JOB:
        spec = {"jobTemplate": {"spec": spec}}
    return {"spec": spec} | _non_empty(status=_non_empty(desiredNumberScheduled=scale.desired))


def _selector(selector: LabelSelector) -> Plain:
    expressions = [
        {"key": item.key, "operator": item.operator} | _non_empty(values=list(item.values))
        for item in selector.match_expressions
    ]
    return _non_empty(matchLabels=dict(selector.match_labels), matchExpressions=expressions)


def _non_empty(**fields: object) -> Plain:
    """The fields without None, False, 0 and empty values."""
    return {name: value for name, value in fields.items() if value}
