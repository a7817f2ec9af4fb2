"""Selects objects of a present or past ledger, and lists them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.domain.subnets.subnet_model import count_addresses, pools_of_subnet
from core.errors import NotFound
from core.projections.projection import Projection
from ops.cli import listings
from ops.cli.application_rows import application_lines, application_listing
from ops.cli.formats import TABLE_OUTPUT, Output
from ops.cli.kinds import NAMESPACED_KINDS, RECORD_KINDS, ObjectKind, plural
from ops.cli.output import ObjectListing
from ops.cli.pool_usage import PoolUsage, claims_by_pool
from ops.cli.workloads import Applications
from ops.manifests import pool_manifest, subnet_manifest


class ObjectSelection(NamedTuple):
    """The objects that a command names. An empty ``name`` or ``namespace`` selects all.

    ``needs_manifests``: a table has manifests too, because selectors read them.
    ``times_until_full``: by pool name, for the wide table.
    """

    kind: ObjectKind
    name: str
    namespace: str
    output: Output
    needs_manifests: bool = False
    times_until_full: Mapping[str, str] = {}

    @property
    def with_manifests(self) -> bool:
        """Whether a listing has manifests."""
        return self.needs_manifests or self.output.is_structured

    def selects(self, name: str, namespace: str = "") -> bool:
        """Whether the object is selected. An object without a namespace matches every namespace."""
        return self.name in ("", name) and (not namespace or self.namespace in ("", namespace))

    @property
    def _is_namespaced(self) -> bool:
        return self.kind in (ObjectKind.ENDPOINT, ObjectKind.APPLICATION, *NAMESPACED_KINDS)

    @property
    def full_name(self) -> str:
        """``namespace/name``; ``name`` for a kind without namespaces."""
        is_qualified = self._is_namespaced and self.namespace
        return f"{self.namespace}/{self.name}" if is_qualified else self.name

    def not_found(self) -> NotFound:
        """The error if no object has the name."""
        listing = f"orbctl get {plural(self.kind)}{' -A' if self._is_namespaced else ''}"
        return NotFound(
            f"there is no {self.kind} {self.full_name}",
            subject=self.name,
            remedy=f"`{listing}` lists the present objects",
        )


def listing_of(
    ledger: Ledger, selection: ObjectSelection, applications: Applications | None = None
) -> ObjectListing:
    """List the selected objects. ``applications``: as in ``application_lines``.

    Raises NotFound if the named object is missing.
    """
    match selection.kind:
        case ObjectKind.POOL:
            listing = _pools(ledger, selection)
        case ObjectKind.SUBNET:
            listing = _subnets(ledger, selection)
        case ObjectKind.RESERVATION:
            reservations = [
                value
                for name, value in sorted(ledger.reservations.items())
                if selection.selects(name)
            ]
            listing = listings.reservation_listing(reservations)
        case ObjectKind.ENDPOINT:
            listing = _endpoints(ledger, selection)
        case ObjectKind.APPLICATION:
            listing = _applications(ledger, selection, applications)
        case ObjectKind.QUARANTINE:
            selected_quarantines = [
                quarantine
                for quarantine in ledger.quarantine.values()
                if selection.selects(quarantine.address)
            ]
            selected_quarantines.sort(key=lambda quarantine: parse_address(quarantine.address))
            listing = listings.quarantine_listing(selected_quarantines)
        case _:
            listing = _records(ledger, selection)
    if selection.name and not listing.names:
        raise selection.not_found()
    return listing


def empty_message(
    ledger: Ledger, selection: ObjectSelection, applications: Applications | None = None
) -> str:
    """The message for an empty list."""
    # A wide table has a row for each NIC of an endpoint.
    in_all_namespaces = listing_of(
        ledger, selection._replace(namespace="", output=TABLE_OUTPUT), applications
    )
    if in_all_namespaces.names:
        return (
            f"there are no {plural(selection.kind)} in namespace {selection.namespace};"
            f" {len(in_all_namespaces.names)} in other namespaces (-A shows all)"
        )
    with_pool = " with automatic pools" if selection.kind is ObjectKind.APPLICATION else ""
    return f"there are no {plural(selection.kind)}{with_pool}"


def _pools(ledger: Ledger, selection: ObjectSelection) -> ObjectListing:
    pools = [pool for name, pool in sorted(ledger.pools.items()) if selection.selects(name)]
    claimed_addresses = claims_by_pool(ledger)
    # Only tables show free addresses.
    tallies = {} if selection.output.is_structured else Projection(ledger).tallies
    counts = {
        pool.name: PoolUsage(
            len(claimed_addresses[pool.name]), tallies[pool.name].free.size if tallies else 0
        )
        for pool in pools
    }
    manifests = [
        pool_manifest(pool, claimed_addresses[pool.name], ledger)
        for pool in pools
        if selection.with_manifests
    ]
    totals = {pool.name: pool_addresses(pool).clamped_size for pool in pools}
    return listings.pool_listing(pools, counts, totals, manifests, selection.times_until_full)


def _subnets(ledger: Ledger, selection: ObjectSelection) -> ObjectListing:
    subnets = [subnet for name, subnet in sorted(ledger.subnets.items()) if selection.selects(name)]
    lines = [
        listings.SubnetLine(
            subnet,
            count_addresses(subnet, ledger.pools),
            len(pools_of_subnet(subnet.name, ledger.pools)),
        )
        for subnet in subnets
    ]
    manifests = [subnet_manifest(subnet, ledger) for subnet in subnets if selection.with_manifests]
    return listings.subnet_listing(lines, manifests)


def _endpoints(ledger: Ledger, selection: ObjectSelection) -> ObjectListing:
    endpoints = [
        endpoint
        for (namespace, name), endpoint in sorted(ledger.endpoints.items())
        if selection.selects(name, namespace)
    ]
    every_nic = selection.output.is_wide
    return listings.endpoint_listing(
        endpoints, namespaced=not selection.namespace, every_nic=every_nic
    )


def _applications(
    ledger: Ledger, selection: ObjectSelection, applications: Applications | None
) -> ObjectListing:
    all_lines = application_lines(ledger, applications)
    lines = [line for line in all_lines if selection.selects(line.key.name, line.key.namespace)]
    return application_listing(lines, namespaced=not selection.namespace)


def _records(ledger: Ledger, selection: ObjectSelection) -> ObjectListing:
    kinds = (
        [RECORD_KINDS[selection.kind]] if selection.kind in RECORD_KINDS else RECORD_KINDS.values()
    )
    return listings.record_listing(
        [
            record
            for _, record in sorted(ledger.records.items())
            if record.kind in kinds and selection.selects(record.name, record.namespace)
        ]
    )
