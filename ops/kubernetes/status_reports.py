"""Makes the reports: the status of pools and subnets, and SpiderEndpoints. Pure.

See docs/reference/custom-resource-rules.md, "SpiderIPPool", "SpiderSubnet" and "SpiderEndpoint".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.domain.autopools.pool_names import OWNER_NAME
from core.domain.evolution import EndpointKey, Ledger
from core.domain.forecast import FULL_SOON_S, Horizon
from core.domain.model import Endpoint, pod_holder
from core.kubernetes.api_client import Object
from core.manifests.manifest_writer import to_manifest
from core.projections.pool_tally import PoolCounts
from core.projections.projection import Projection
from ops.kubernetes.conditions import DesiredCondition, camel
from ops.kubernetes.pool_outlooks import Outlooks
from ops.kubernetes.translated_kinds import FINALIZER, is_being_deleted
from ops.manifests import endpoint_manifest, pool_manifest, subnet_manifest

ALLOCATIONS_SHOWN_MAX: Final = 8_192
"""``allocatedIPs`` has at most this many addresses; API objects are limited to 1.5 MB."""

NEARLY_PERCENT: Final = 90
"""A pool is nearly exhausted if at least this percentage of its usable addresses is allocated."""

EXHAUSTED: Final = "Exhausted"
NEARLY_EXHAUSTED: Final = "NearlyExhausted"
CONFLICTED: Final = "Conflicted"
FULL_SOON: Final = "FullSoon"

REPORTED_CONDITIONS: Final = (EXHAUSTED, NEARLY_EXHAUSTED, CONFLICTED, FULL_SOON)

REPORT_ANNOTATION: Final = "orbweaver.io/report"
"""The reporter deletes only objects with this annotation, and SpiderEndpoints that it created."""


class StatusReport(NamedTuple):
    """The reported status of an object.

    ``unknown``: the types of conditions that stay, because the new value is unknown.
    """

    fields: Object
    conditions: Sequence[DesiredCondition] = ()
    unknown: tuple[str, ...] = ()


def pool_report(projection: Projection, name: str, outlooks: Outlooks) -> StatusReport | None:
    """The status of a pool; None if it is not in the log."""
    pool = projection.ledger.pools.get(name)
    if pool is None:
        return None
    counts = projection.tallies[name].counts
    shown = projection.addresses_in(name)[:ALLOCATIONS_SHOWN_MAX]
    status: Object = pool_manifest(pool, shown, projection.ledger)["status"]
    status["allocatedIPCount"] = counts.claimed
    horizon = outlooks.get(name)
    conditions = _count_conditions(counts)
    if horizon is not None:
        conditions.append(_full_soon(horizon))
    return StatusReport(status, conditions, () if name in outlooks else (FULL_SOON,))


def auto_pool_report(ledger: Ledger, name: str) -> Object | None:
    """The custom resource of an automatic pool; None for other pools."""
    pool = ledger.pools.get(name)
    if pool is None or OWNER_NAME not in pool.labels:
        return None
    manifest: Object = to_manifest(pool)
    annotations = {**pool.annotations, REPORT_ANNOTATION: "true"}
    manifest["metadata"] |= {"finalizers": [FINALIZER], "annotations": annotations}
    return manifest


def matches_report(stored: Object | None, desired: Object) -> bool:
    """Whether a custom resource equals the report of an automatic pool.

    A terminating object counts as equal, so that it is not changed any more.
    """
    if stored is None:
        return False
    metadata = stored["metadata"]
    is_equal = stored["spec"] == desired["spec"] and all(
        metadata.get(part, {}).get(key) == text
        for part in ("labels", "annotations")
        for key, text in desired["metadata"][part].items()
    )
    return is_equal or is_being_deleted(stored)


def subnet_report(ledger: Ledger, name: str) -> StatusReport | None:
    """The status of a subnet; None if it is not in the log."""
    subnet = ledger.subnets.get(name)
    if subnet is None:
        return None
    return StatusReport(subnet_manifest(subnet, ledger)["status"])


def endpoint_report(ledger: Ledger, key: EndpointKey) -> Object | None:
    """The SpiderEndpoint of an endpoint; None if the endpoint is not in the ledger.

    The finalizer keeps the SpiderEndpoint until the addresses are released. A SpiderEndpoint with
    fixed addresses has no owner, so that it outlives the Pod.
    """
    endpoint = ledger.endpoints.get(key)
    if endpoint is None:
        return None
    manifest: Object = endpoint_manifest(endpoint)
    manifest["metadata"]["finalizers"] = [FINALIZER]
    if _is_held_by_pod(endpoint):
        owner = {"apiVersion": "v1", "kind": "Pod", "name": endpoint.name, "uid": endpoint.uid}
        manifest["metadata"]["ownerReferences"] = [owner]
    return manifest


def _is_held_by_pod(endpoint: Endpoint) -> bool:
    return bool(endpoint.uid) and endpoint.holder == pod_holder(endpoint.uid)


def _count_conditions(counts: PoolCounts) -> list[DesiredCondition]:
    usable = counts.total - counts.reserved - counts.quarantined
    used = usable - counts.free
    free_text = f"{counts.free} of {usable} usable addresses are free"
    is_full = counts.free == 0
    is_nearly = usable > 0 and used * 100 >= usable * NEARLY_PERCENT
    noun = "address is" if counts.quarantined == 1 else "addresses are"
    quarantine_text = (
        f"{counts.quarantined} {noun} quarantined; `orbctl quarantine list` shows the reasons"
    )
    return [
        DesiredCondition(
            EXHAUSTED, "True" if is_full else "False", _exhaustion_reason(is_low=is_full), free_text
        ),
        DesiredCondition(
            NEARLY_EXHAUSTED,
            "True" if is_nearly else "False",
            _exhaustion_reason(is_low=is_nearly),
            free_text,
        ),
        DesiredCondition(
            CONFLICTED,
            "True" if counts.quarantined else "False",
            "AddressesInQuarantine" if counts.quarantined else "NoQuarantine",
            quarantine_text if counts.quarantined else "no address is quarantined",
        ),
    ]


def _full_soon(horizon: Horizon) -> DesiredCondition:
    is_soon = horizon.below_s <= FULL_SOON_S
    if horizon.short == "full":
        message = "the pool is full"
    else:
        time = horizon.short.replace("<", "less than ").replace(">", "more than ")
        message = (
            f"if its use keeps growing at this rate, the pool will be full in {time};"
            " see `orbctl forecast`"
        )
    return DesiredCondition(FULL_SOON, "True" if is_soon else "False", camel(horizon.name), message)


def _exhaustion_reason(*, is_low: bool) -> str:
    return "FewAddressesFree" if is_low else "AddressesFree"
