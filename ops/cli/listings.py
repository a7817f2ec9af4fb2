"""Table rows of objects, with the columns of ``kubectl get``. Pure.

Source: docs/reference/custom-resource-rules.md, "Kinds".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.domain.events import RecordDefined
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.domain.subnets.subnet_model import SubnetCounts
from core.manifests.manifest_writer import to_manifest
from ops.cli.kinds import ObjectKind
from ops.cli.output import ObjectListing, TableColumn
from ops.cli.pool_usage import PoolUsage
from ops.manifests import Plain, endpoint_manifest, quarantine_manifest

GROUP = "spiderpool.spidernet.io"
APP_NAMESPACE = "ipam.spidernet.io/app-namespace"

POOL_COLUMNS = (
    TableColumn("NAME"),
    TableColumn("VERSION"),
    TableColumn("SUBNET"),
    TableColumn("ALLOCATED-IP-COUNT", right=True),
    TableColumn("TOTAL-IP-COUNT", right=True),
    TableColumn("DEFAULT"),
    TableColumn("FREE", wide=True, right=True),
    TableColumn("STATE", wide=True),
    TableColumn("DISABLE", wide=True),
    TableColumn("NODENAME", wide=True),
    TableColumn("MULTUSNAME", wide=True),
    TableColumn("APP-NAMESPACE", wide=True),
    TableColumn("FULL-IN", wide=True),
)
SUBNET_COLUMNS = (
    TableColumn("NAME"),
    TableColumn("VERSION"),
    TableColumn("SUBNET"),
    TableColumn("ALLOCATED-IP-COUNT", right=True),
    TableColumn("TOTAL-IP-COUNT", right=True),
    TableColumn("FREE", wide=True, right=True),
    TableColumn("POOLS", wide=True, right=True),
    TableColumn("STATE", wide=True),
)
RESERVATION_COLUMNS = (TableColumn("NAME"), TableColumn("VERSION"), TableColumn("IPS", wide=True))
ENDPOINT_COLUMNS = (
    TableColumn("NAME"),
    TableColumn("INTERFACE"),
    TableColumn("IPV4POOL"),
    TableColumn("IPV4"),
    TableColumn("IPV6POOL"),
    TableColumn("IPV6"),
    TableColumn("NODE"),
    TableColumn("OWNER", wide=True),
    TableColumn("UID", wide=True),
    TableColumn("SANDBOX", wide=True),
)
QUARANTINE_COLUMNS = (
    TableColumn("ADDRESS"),
    TableColumn("REASON"),
    TableColumn("EVIDENCE"),
    TableColumn("RETURNS"),
)
RECORD_COLUMNS = (
    TableColumn("KIND"),
    TableColumn("NAMESPACE"),
    TableColumn("NAME"),
    TableColumn("OWNER"),
    TableColumn("LABELS"),
    TableColumn("ANNOTATIONS", wide=True),
)
SANDBOX_CHARS = 12


def pool_listing(
    pools: Sequence[Pool],
    counts: Mapping[str, PoolUsage],
    totals: Mapping[str, int],
    manifests: Sequence[Plain] = (),
    times_until_full: Mapping[str, str] = {},
) -> ObjectListing:
    """Rows of pools. The keys of the mappings are pool names.

    ``totals``: sizes of pools in addresses. ``times_until_full``: texts such as <7d.
    """
    rows = [
        (
            *_pool_row(pool, counts[pool.name], totals[pool.name]),
            times_until_full.get(pool.name, "-"),
        )
        for pool in pools
    ]
    names = [f"{ObjectKind.POOL}.{GROUP}/{pool.name}" for pool in pools]
    return ObjectListing(POOL_COLUMNS, rows, names, manifests)


class SubnetLine(NamedTuple):
    """A subnet with its counters and number of pools."""

    subnet: Subnet
    counts: SubnetCounts
    pools: int


def subnet_listing(lines: Sequence[SubnetLine], manifests: Sequence[Plain] = ()) -> ObjectListing:
    """Rows of subnets. An address in a pool of the subnet counts as allocated."""
    rows = [
        (
            subnet.name,
            str(subnet.family),
            subnet.subnet,
            str(counts.allocated),
            str(counts.total),
            str(counts.free),
            str(pools),
            state_of(subnet),
        )
        for subnet, counts, pools in lines
    ]
    names = [f"{ObjectKind.SUBNET}.{GROUP}/{line.subnet.name}" for line in lines]
    return ObjectListing(SUBNET_COLUMNS, rows, names, manifests)


def reservation_listing(reservations: Sequence[Reservation]) -> ObjectListing:
    """Rows of reservations."""
    return ObjectListing(
        RESERVATION_COLUMNS,
        [
            (reservation.name, str(reservation.family), ",".join(reservation.ips))
            for reservation in reservations
        ],
        [f"{ObjectKind.RESERVATION}.{GROUP}/{reservation.name}" for reservation in reservations],
        [to_manifest(reservation) for reservation in reservations],
    )


def endpoint_listing(
    endpoints: Sequence[Endpoint], *, namespaced: bool, every_nic: bool = False
) -> ObjectListing:
    """Rows of endpoints. Without ``every_nic``, only the first NIC has a row."""
    rows, listed_endpoints = [], []
    for endpoint in endpoints:
        for nic in endpoint.nics if every_nic else endpoint.nics[:1]:
            row = _endpoint_row(endpoint, nic)
            rows.append((endpoint.namespace, *row) if namespaced else row)
            listed_endpoints.append(endpoint)
    columns = (TableColumn("NAMESPACE"), *ENDPOINT_COLUMNS) if namespaced else ENDPOINT_COLUMNS
    names = [f"{ObjectKind.ENDPOINT}.{GROUP}/{endpoint.name}" for endpoint in listed_endpoints]
    return ObjectListing(
        columns, rows, names, [endpoint_manifest(endpoint) for endpoint in listed_endpoints]
    )


def quarantine_listing(quarantines: Sequence[Quarantine]) -> ObjectListing:
    """Rows of quarantined addresses."""
    return ObjectListing(
        QUARANTINE_COLUMNS,
        [
            (
                quarantine.address,
                quarantine.reason,
                evidence_text(quarantine) or "-",
                _end_of_quarantine(quarantine),
            )
            for quarantine in quarantines
        ],
        [f"{ObjectKind.QUARANTINE}/{quarantine.address}" for quarantine in quarantines],
        [quarantine_manifest(quarantine) for quarantine in quarantines],
    )


def _end_of_quarantine(quarantine: Quarantine) -> str:
    """How the quarantine ends. "when silent": probes find no host; "by hand": a user ends it."""
    return "by hand" if quarantine.conflicting_host is None else "when silent"


def record_listing(records: Sequence[RecordDefined]) -> ObjectListing:
    """Rows of records."""
    return ObjectListing(
        RECORD_COLUMNS,
        [
            (
                record.kind,
                record.namespace or "-",
                record.name,
                f"{record.owner_kind}/{record.owner_name}" if record.owner_name else "-",
                _pairs(record.labels),
                _pairs(record.annotations),
            )
            for record in records
        ],
        [f"{record.kind.lower()}/{record.name}" for record in records],
        [to_manifest(record) for record in records],
    )


def state_of(pool: Pool | Subnet) -> str:
    """``active``, ``disabled`` or ``retiring``."""
    is_disabled = isinstance(pool, Pool) and pool.disabled
    if pool.retiring:
        return "retiring"
    return "disabled" if is_disabled else "active"


def _pool_row(pool: Pool, counts: PoolUsage, total: int) -> Sequence[str]:
    affinity = pool.pod_affinity
    return (
        pool.name,
        str(pool.family),
        pool.subnet,
        str(counts.claimed),
        str(total),
        _boolean_text(value=pool.default),
        str(counts.free),
        state_of(pool),
        _boolean_text(value=pool.disabled),
        ",".join(pool.node_names) or "-",
        ",".join(pool.multus_names) or "-",
        (affinity.match_labels.get(APP_NAMESPACE, "") if affinity else "") or "-",
    )


def _endpoint_row(endpoint: Endpoint, nic: Nic) -> Sequence[str]:
    return (
        endpoint.name,
        nic.interface or "-",
        nic.ipv4_pool or "-",
        nic.ipv4 or "-",
        nic.ipv6_pool or "-",
        nic.ipv6 or "-",
        endpoint.node,
        f"{endpoint.owner_kind}/{endpoint.owner_name}",
        endpoint.uid,
        nic.container[:SANDBOX_CHARS] or "-",
    )


def _boolean_text(*, value: bool) -> str:
    return "true" if value else "false"


def _pairs(mapping: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(mapping.items())) or "-"
