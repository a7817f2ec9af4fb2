"""Lists applications with their automatic pools and pending steps. Pure.

A controller would plan the same steps. An application is listed if it has a record (a stored
copy of the workload), exists in the cluster, or has a pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from core.domain.autopools.application_plan import (
    ReconcileStep,
    plan_application,
    plan_deleted_application,
)
from core.domain.autopools.applications import (
    Application,
    application_in,
    is_built_in,
    replicas_of,
    skip_reason,
)
from core.domain.autopools.pool_names import (
    IP_NUMBER,
    OWNER_UID,
    ApplicationKey,
    application_of,
    scope_of,
)
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, IpNumber, read_number
from core.domain.configuration.configuration_state import Configuration, pool_addresses
from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.model import Pool
from core.domain.selection.selection_request import FAMILY_NAMES
from core.errors import BadInput
from ops.cli.listings import state_of
from ops.cli.output import ObjectListing, TableColumn
from ops.cli.pool_usage import claims_by_pool
from ops.cli.workloads import Applications
from ops.manifests import Plain

COLUMNS: Final = (
    TableColumn("NAME"),
    TableColumn("KIND"),
    TableColumn("REPLICAS", right=True),
    TableColumn("POOLS", right=True),
    TableColumn("ADDRESSES", right=True),
    TableColumn("HELD", right=True),
    TableColumn("STATE"),
    TableColumn("NUMBER", wide=True),
    TableColumn("UID", wide=True),
)
POOL_COLUMNS: Final = (
    TableColumn("POOL"),
    TableColumn("NIC"),
    TableColumn("FAMILY"),
    TableColumn("SUBNET"),
    TableColumn("ADDRESSES"),
    TableColumn("HELD", right=True),
    TableColumn("NUMBER"),
    TableColumn("STATE"),
)


class ApplicationLine(NamedTuple):
    """One application. ``steps``: pending changes; ``held``: number of claims by pool name.

    If ``application`` is None, ``missing`` has the reason; if both are None, no record exists.
    """

    key: ApplicationKey
    application: Application | None
    pools: tuple[Pool, ...]
    held: Mapping[str, int]
    steps: tuple[ReconcileStep, ...]
    missing: MissingOwner | None = None

    @property
    def state(self) -> str:
        """The state in one or two words."""
        if self.missing is not None:
            return _missing_state(self.key, self.missing)
        if self.application is None:
            return "no record"
        if skip_reason(self.application):
            return "skipped"
        if any(step.action == "refuse" and not step.again for step in self.steps):
            return "refused"
        if any(step.command is None for step in self.steps):
            return "waiting"
        return "to do" if self.steps else "settled"

    @property
    def number(self) -> str:
        """Addresses that the pools' annotations request; ``+1`` requests one more than replicas."""
        numbers = dict.fromkeys(pool.annotations.get(IP_NUMBER, "") for pool in self.pools)
        return ", ".join(numbers) or "-"


def application_lines(
    ledger: Ledger, applications: Applications | None = None
) -> list[ApplicationLine]:
    """All applications, sorted by namespace and name.

    If ``applications`` is None, lists the applications that have records.
    """
    if applications is None:
        applications = _recorded_applications(ledger)
    pools: dict[ApplicationKey, list[Pool]] = {}
    for pool in ledger.pools.values():
        key = application_of(pool.labels)
        if key is not None:
            pools.setdefault(key, []).append(pool)
    held = {name: len(addresses) for name, addresses in claims_by_pool(ledger).items()}
    configuration = Configuration.of(ledger)
    claims = {address: revised.claim for address, revised in ledger.claims.items()}
    lines = []
    for key in sorted(
        applications.keys() | pools.keys(), key=lambda key: (key.namespace, key.name, key)
    ):
        own_pools = sorted(pools.get(key, []), key=lambda pool: pool.name)
        listed = applications.get(key)
        steps: tuple[ReconcileStep, ...] = ()
        missing = listed if isinstance(listed, MissingOwner) else None
        application = None if isinstance(listed, MissingOwner) else listed
        if application is not None:
            steps = plan_application(application, configuration, claims, _default_of(own_pools))
        elif missing is not None and missing.certain:
            uids = sorted({pool.labels.get(OWNER_UID, "") for pool in own_pools})
            steps = tuple(
                step
                for uid in uids
                for step in plan_deleted_application(uid, configuration, claims)
            )
        lines.append(ApplicationLine(key, application, tuple(own_pools), held, steps, missing))
    return lines


def _recorded_applications(ledger: Ledger) -> Applications:
    return {
        application.key: application
        for record in ledger.records.values()
        if (application := application_in(record)) is not None
    }


def _missing_state(key: ApplicationKey, missing: MissingOwner) -> str:
    if missing.certain:
        return "gone"
    return "unknown" if is_built_in(key) else "third party"


def application_listing(lines: list[ApplicationLine], *, namespaced: bool) -> ObjectListing:
    """Table rows, and values for JSON and YAML."""
    rows = []
    for line in lines:
        replicas = str(replicas_of(line.application)) if line.application else "-"
        sizes = sum(pool_addresses(pool).size for pool in line.pools)
        row = (
            line.key.name,
            line.key.kind,
            replicas,
            str(len(line.pools)),
            str(sizes),
            str(sum(line.held.get(pool.name, 0) for pool in line.pools)),
            line.state,
            line.number,
            line.application.uid if line.application else "-",
        )
        rows.append((line.key.namespace, *row) if namespaced else row)
    columns = (TableColumn("NAMESPACE"), *COLUMNS) if namespaced else COLUMNS
    names = [f"application/{line.key.kind}/{line.key.name}" for line in lines]
    return ObjectListing(columns, rows, names, [plain_application(line) for line in lines])


def pool_rows(line: ApplicationLine) -> list[tuple[str, ...]]:
    """A row of ``POOL_COLUMNS`` for each pool."""
    rows: list[tuple[str, ...]] = []
    for pool in line.pools:
        scope = scope_of(pool.labels, pool.family)
        rows.append(
            (
                pool.name,
                scope.interface if scope else "-",
                FAMILY_NAMES[pool.family],
                scope.subnet if scope else "-",
                ", ".join(pool.ips) or "-",
                str(line.held.get(pool.name, 0)),
                pool.annotations.get(IP_NUMBER, "-"),
                state_of(pool),
            )
        )
    return rows


def shown_action(step: ReconcileStep) -> str:
    """The action to print; "wait" for a refused step that a controller tries again."""
    if step.action == "refuse":
        return "wait" if step.again else "refused"
    return step.action


def plain_application(line: ApplicationLine) -> Plain:
    """A value for JSON and YAML."""
    key = line.key
    return {
        "apiVersion": key.api_version,
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "uid": line.application.uid if line.application else "",
        "replicas": replicas_of(line.application) if line.application else None,
        "state": line.state,
        "pools": [
            {
                "name": pool.name,
                "ips": list(pool.ips),
                "held": line.held.get(pool.name, 0),
                "retiring": pool.retiring,
            }
            for pool in line.pools
        ],
        "steps": [
            {
                "action": shown_action(step),
                "pool": step.pool,
                "reason": step.reason,
                "again": step.again,
            }
            for step in line.steps
        ],
    }


def _default_of(pools: list[Pool]) -> IpNumber:
    """Guess the controllers' default from the pools: orbctl cannot read their setting."""
    for pool in pools:
        try:
            number = read_number(pool.annotations.get(IP_NUMBER, ""))
        except BadInput:
            continue
        if number.is_flexible:  # a fixed number comes from the Pod template
            return number
    return AS_MANY_AS_REPLICAS
