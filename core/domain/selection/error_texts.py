"""The texts of pool selection: errors, and the explanation of each decision.

See docs/reference/pool-selection.md, "Error texts" and "Filters".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.events import PoolVerdict
from core.domain.request_facts import PodFacts
from core.domain.selection.pool_annotations import (
    POD_IPPOOL,
    POD_IPPOOLS,
    POD_SUBNET,
    POD_SUBNETS,
)
from core.domain.selection.selection_request import (
    FAMILY_NAMES,
    SOURCE_CNI_CONF,
    SOURCE_DEFAULT_POOLS,
    SOURCE_NAMESPACE,
    SOURCE_POD_IPPOOL,
    SOURCE_POD_IPPOOLS,
    SOURCE_POD_SUBNETS,
    Candidates,
    CandidateVerdict,
    Demand,
    Selection,
)
from core.domain.validation.common_rules import counted
from core.errors import AddressesUsedOut, AllocationError, NoPoolAvailable, WrongInput

STANDARD_MODE: Final = "failed to allocate IP addresses in standard mode: "
"""Spiderpool's prefix for errors of an ADD that claims new addresses; users search for it."""

MISSING_RULE: Final = "missing"
FREE_ADDRESS_RULE: Final = "free-address"
DUPLICATE_RULE: Final = "duplicate"

_REASONS: Final = {
    MISSING_RULE: "no IPPool has this name",
    FREE_ADDRESS_RULE: "all of its addresses are in use",
    DUPLICATE_RULE: "it is named twice for this NIC",
    "disabled": "the IPPool is disabled",
    "terminating": "the IPPool is being deleted",
    "no-version": "the IPPool has no IP version",
    "other-version": "the IPPool has the other IP version",
    "multus-name": "its multusName does not name the network of this NIC",
    "multus-network": "its multusName cannot be compared: the network of this NIC is unknown",
    "master-subnet": "no address of the NIC's master interface is in its subnet",
    "malformed": "its subnet cannot be read",
}
"""Rule -> reason, used if the verdict has no detail."""

SOURCE_TEXTS: Final[dict[str, str]] = {
    SOURCE_POD_SUBNETS: f"Pod annotation '{POD_SUBNETS}' or '{POD_SUBNET}'",
    SOURCE_POD_IPPOOLS: f"Pod annotation '{POD_IPPOOLS}'",
    SOURCE_POD_IPPOOL: f"Pod annotation '{POD_IPPOOL}'",
    SOURCE_NAMESPACE: "the annotations of the Namespace",
    SOURCE_CNI_CONF: "the CNI configuration",
    SOURCE_DEFAULT_POOLS: "the default IPPools of the cluster",
}


def with_standard_mode_prefix(error: AllocationError, source: str = "") -> AllocationError:
    """The error with the prefix ``STANDARD_MODE``."""
    return error.with_message(STANDARD_MODE + error.message, source=source)


def aggregate(reasons: Iterable[str]) -> str:
    """The distinct reasons as ``a`` or ``[a, b]``."""
    distinct = list(dict.fromkeys(reasons))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def bracketed(names: Iterable[str]) -> str:
    """Names as ``[a b]``."""
    return f"[{' '.join(names)}]"


def pod_subject(pod: PodFacts) -> str:
    """The subject of errors about this Pod."""
    return f"Pod/{pod.namespace}/{pod.name}"


def no_pool_named(unreadable: Mapping[str, str] | None = None) -> NoPoolAvailable:
    """The error if no source names a pool. ``unreadable``: pool that cannot be decoded -> why."""
    remedy = "name IPPools in an annotation or the CNI configuration, or mark one as default"
    if unreadable:
        why = aggregate(unreadable.values())
        remedy += f"; IPPools that cannot be read are not used (see `orbctl verify`): {why}"
    return NoPoolAvailable(
        "no IPPool available, no pool selection rules of any type are specified", remedy=remedy
    )


def no_candidate(pod: PodFacts, interface: str, candidates: Candidates) -> NoPoolAvailable:
    """The error if the requested NIC has no pool."""
    source = SOURCE_TEXTS[candidates.source]
    relevant = aggregate(note.text for note in candidates.notes)
    return NoPoolAvailable(
        f"no IPPool available, {source} gives NIC {interface} no IPPool: {relevant}",
        subject=pod_subject(pod),
        remedy="name an existing IPPool of an enabled IP version for this NIC",
    )


def no_item_left(selection: Selection) -> NoPoolAvailable:
    """The error if all items of the annotation are used."""
    source, items = SOURCE_TEXTS[selection.source], counted(len(selection.nics), "item")
    return NoPoolAvailable(
        f"no IPPool available, {source} has {items}, and none is left for this NIC",
        remedy="add an item for every NIC of the Pod",
        verdicts=selection.verdicts,
    )


def duplicate_pool(pod: PodFacts, interface: str, family: Family, name: str) -> WrongInput:
    """The error if a pool is named twice for one NIC."""
    message = f"wrong input, duplicate IPPool {name} specified for NIC {interface}"
    return WrongInput(
        message,
        subject=pod_subject(pod),
        remedy="name each IPPool once",
        verdicts=(_unusable(interface, family, name, DUPLICATE_RULE, message),),
    )


def missing_pool(interface: str, family: Family, name: str, why: str = "") -> AllocationError:
    """The error if a named pool does not exist, or cannot be decoded for the reason ``why``."""
    remedy = f"create {FAMILY_NAMES[family]} IPPool {name} or correct the name"
    message = f'failed to get original IPPool {name}: SpiderIPPool "{name}" not found'
    if why:
        remedy = "`orbctl verify` lists the objects that cannot be read, with the remedy"
        message = f"failed to get original IPPool {name}: {why}"
    return AllocationError(
        message,
        subject=f"SpiderIPPool/{name}",
        remedy=remedy,
        verdicts=(_unusable(interface, family, name, MISSING_RULE, message)._replace(detail=why),),
    )


def missing_pool_of(error: AllocationError) -> str:
    """The missing pool that caused the error, or ""."""
    verdicts = (verdict for verdict in error.verdicts if isinstance(verdict, CandidateVerdict))
    return next((verdict.pool for verdict in verdicts if verdict.rule == MISSING_RULE), "")


def all_filtered_out(
    pod: PodFacts, rejected: Iterable[CandidateVerdict], verdicts: tuple[CandidateVerdict, ...]
) -> NoPoolAvailable:
    """The error if all pools of one NIC and family are rejected.

    ``verdicts``: all verdicts of the request.
    """
    rejected = tuple(rejected)
    names = bracketed(verdict.pool for verdict in rejected)
    pools = f"all {FAMILY_NAMES[rejected[0].family]} IPPools {names} of {rejected[0].interface}"
    reasons = aggregate(verdict.reason for verdict in rejected)
    return NoPoolAvailable(
        f"no IPPool available, {pools} filtered out: {reasons}",
        subject=pod_subject(pod),
        remedy="`orbctl explain` shows each IPPool's conditions and the Pod's values",
        verdicts=verdicts,
    )


def used_out(
    demand: Demand, reasons: Iterable[str], verdicts: tuple[CandidateVerdict, ...]
) -> AddressesUsedOut:
    """The error if all pools of a demand are full."""
    return AddressesUsedOut(
        f"failed to allocate any {FAMILY_NAMES[demand.family]} IP address to NIC {demand.interface}"
        f" from IPPools {bracketed(demand.pools)}: {aggregate(reasons)}",
        subject=" ".join(demand.pools),
        remedy="add addresses to one of these pools, or add a pool to the Pod's annotation",
        verdicts=verdicts,
    )


def describe_verdicts(verdicts: Iterable[CandidateVerdict]) -> Iterator[str]:
    """One line for each verdict."""
    for verdict in verdicts:
        if verdict.accepted:
            yield f"  {verdict.pool}: accepted by {verdict.rule}"
        else:
            reason = verdict.reason or reason_of(verdict.short())
            detail = f" ({verdict.detail})" if verdict.detail not in reason else ""
            yield f"  {verdict.pool}: rejected by {verdict.rule}: {reason}{detail}"


def reason_of(verdict: PoolVerdict) -> str:
    """Why a pool was rejected."""
    return verdict.detail or _REASONS.get(verdict.rule, f"the rule {verdict.rule}")


def _unusable(
    interface: str, family: Family, name: str, rule: str, reason: str
) -> CandidateVerdict:
    return CandidateVerdict(interface, family, name, accepted=False, rule=rule, reason=reason)
