"""What reports say: the status of pools and subnets, and SpiderEndpoints. Pure.

See docs/reference/custom-resource-rules.md, "SpiderIPPool", "SpiderSubnet" and "SpiderEndpoint". A
report is never read back: what it says is what the projection has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.domain.autopools.names import OWNER_NAME
from core.domain.evolution import EndpointKey, Ledger
from core.domain.model import Endpoint, pod_holder
from core.kubernetes.api import Object
from core.manifests.manifest_writer import to_manifest
from core.projections.fold import Projection
from core.projections.pool_tally import PoolCounts
from ops.kubernetes.conditions import DesiredCondition
from ops.kubernetes.resources import FINALIZER, is_leaving
from ops.manifests import endpoint_manifest, pool_manifest, subnet_manifest

ALLOCATIONS_SHOWN_MAX: Final = 8_192
"""Addresses in ``allocatedIPs``: an object of the API may have 1.5 MB. The counts are exact."""

NEARLY_PERCENT: Final = 90
"""Of the usable addresses; held so many or more, a pool is nearly exhausted."""

EXHAUSTED: Final = "Exhausted"
NEARLY_EXHAUSTED: Final = "NearlyExhausted"
CONFLICTED: Final = "Conflicted"


OBSERVED: Final = (EXHAUSTED, NEARLY_EXHAUSTED, CONFLICTED)
"""The types that the reporter writes."""

REPORT: Final = "orbweaver.io/report"
"""An annotation of objects that we made: only these are ever deleted."""


class StatusReport(NamedTuple):
    """What the projection has of an object: the fields of its status, and conditions."""

    fields: Object
    conditions: Sequence[DesiredCondition] = ()


def pool_report(projection: Projection, name: str) -> StatusReport | None:
    """The status of a pool; None when the log does not know it."""
    pool = projection.ledger.pools.get(name)
    if pool is None:
        return None
    counts = projection.tallies[name].counts
    shown = projection.addresses_in(name)[:ALLOCATIONS_SHOWN_MAX]
    status: Object = pool_manifest(pool, shown, projection.ledger)["status"]
    status["allocatedIPCount"] = counts.claimed
    return StatusReport(status, _observed(counts))


def auto_pool_report(ledger: Ledger, name: str) -> Object | None:
    """The custom resource of an automatic pool, which nobody writes by hand; None for others."""
    pool = ledger.pools.get(name)
    if pool is None or OWNER_NAME not in pool.labels:
        return None
    found: Object = to_manifest(pool)
    annotations = {**pool.annotations, REPORT: "true"}
    found["metadata"] |= {"finalizers": [FINALIZER], "annotations": annotations}
    return found


def says(one: Object | None, wanted: Object) -> bool:
    """Whether a custom resource says what the report of an automatic pool does.

    One in deletion says it too: what it reports of drains, and a new one comes if it has to.
    """
    if one is None:
        return False
    metadata = one["metadata"]
    same = one["spec"] == wanted["spec"] and all(
        metadata.get(part, {}).get(key) == text
        for part in ("labels", "annotations")
        for key, text in wanted["metadata"][part].items()
    )
    return same or is_leaving(one)


def subnet_report(ledger: Ledger, name: str) -> StatusReport | None:
    """The status of a subnet; None when the log does not know it."""
    subnet = ledger.subnets.get(name)
    if subnet is None:
        return None
    return StatusReport(subnet_manifest(subnet, ledger)["status"])


def endpoint_report(ledger: Ledger, key: EndpointKey) -> Object | None:
    """A SpiderEndpoint; None when nothing is held.

    That of a stateless Pod goes with it (owner reference), and the finalizer keeps it in sight
    until its addresses are released. Fixed addresses outlive the Pod, and so does their report.
    """
    endpoint = ledger.endpoints.get(key)
    if endpoint is None:
        return None
    found: Object = endpoint_manifest(endpoint)
    found["metadata"] |= {"finalizers": [FINALIZER], "annotations": {REPORT: "true"}}
    if _is_stateless(endpoint):
        owner = {"apiVersion": "v1", "kind": "Pod", "name": endpoint.name, "uid": endpoint.uid}
        found["metadata"]["ownerReferences"] = [owner]
    return found


def _is_stateless(endpoint: Endpoint) -> bool:
    return bool(endpoint.uid) and endpoint.holder == pod_holder(endpoint.uid)


def _observed(counts: PoolCounts) -> list[DesiredCondition]:
    """What counts tell, each of them said in either case, so that nobody has to guess."""
    usable = counts.total - counts.reserved - counts.quarantined
    taken = usable - counts.free
    said = f"{counts.free} of {usable} usable addresses are free"
    is_full = counts.free == 0
    is_nearly = usable > 0 and taken * 100 >= usable * NEARLY_PERCENT
    aside = f"{counts.quarantined} addresses are set aside because strangers use them"
    return [
        DesiredCondition(EXHAUSTED, "True" if is_full else "False", _word(is_full), said),
        DesiredCondition(
            NEARLY_EXHAUSTED, "True" if is_nearly else "False", _word(is_nearly), said
        ),
        DesiredCondition(
            CONFLICTED,
            "True" if counts.quarantined else "False",
            "AddressesInQuarantine" if counts.quarantined else "NoQuarantine",
            aside if counts.quarantined else "no address is set aside",
        ),
    ]


def _word(is_low: bool) -> str:  # the reason follows from the fact alone
    return "FewAddressesFree" if is_low else "AddressesFree"
