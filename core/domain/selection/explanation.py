"""The texts of selection: its errors, and the explanation of each decision.

The texts are those of docs/reference/pool-selection.md, "Error texts" and "Filters". They are only
built for a failure or on request. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.events import PoolVerdict
from core.domain.facts import PodFacts
from core.domain.selection.annotations import (
    POD_IPPOOL,
    POD_IPPOOLS,
    POD_SUBNET,
    POD_SUBNETS,
)
from core.domain.selection.request import (
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
    Note,
    Selection,
)
from core.errors import AddressesUsedOut, AllocationError, NoPoolAvailable, WrongInput

STANDARD_MODE: Final = "failed to allocate IP addresses in standard mode: "

MISSING: Final = "missing"
"""The rule about a pool that does not exist."""

FREE_ADDRESS: Final = "free-address"
"""The rule about a pool whose addresses are all taken."""

DUPLICATE: Final = "duplicate"
"""The rule about a pool that is named twice for one NIC."""

_REASONS: Final = {
    MISSING: "no IPPool has this name",
    FREE_ADDRESS: "all of its addresses are in use",
    DUPLICATE: "it is named twice for this NIC",
    "disabled": "the IPPool is disabled",
    "terminating": "the IPPool is being deleted",
    "no-version": "the IPPool has no IP version",
    "other-version": "the IPPool has the other IP version",
    "multus-name": "its multusName does not name the network of this NIC",
    "multus-network": "its multusName cannot be compared: the network of this NIC is unknown",
    "master-subnet": "no address of the NIC's master interface is in its subnet",
    "malformed": "its subnet cannot be read",
}
"""The reason of a rejection whose event has no detail, by rule."""

SOURCE_WORDS: Final[dict[str, str]] = {
    SOURCE_POD_SUBNETS: f"Pod annotation '{POD_SUBNETS}' or '{POD_SUBNET}'",
    SOURCE_POD_IPPOOLS: f"Pod annotation '{POD_IPPOOLS}'",
    SOURCE_POD_IPPOOL: f"Pod annotation '{POD_IPPOOL}'",
    SOURCE_NAMESPACE: "the annotations of the Namespace",
    SOURCE_CNI_CONF: "the CNI configuration",
    SOURCE_DEFAULT_POOLS: "the default IPPools of the cluster",
}


def in_standard_mode(error: AllocationError, source: str = "") -> AllocationError:
    """The same error with the prefix of a first allocation, and the level that named the pools.

    See docs/reference/pool-selection.md, "Error texts".
    """
    return error.with_message(STANDARD_MODE + error.message, source=source)


def aggregate(reasons: Iterable[str]) -> str:
    """Several reasons as one text: equal ones once, one alone bare, more as ``[a, b]``."""
    distinct = list(dict.fromkeys(reasons))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def bracketed(names: Iterable[str]) -> str:
    """Names as ``[a b]``."""
    return f"[{' '.join(names)}]"


def pod_subject(pod: PodFacts) -> str:
    """The Pod as the subject of an error."""
    return f"Pod/{pod.namespace}/{pod.name}"


def no_rule(unreadable: Mapping[str, str] | None = None) -> NoPoolAvailable:
    """No level names any pool. ``unreadable``: stored pools that may be default ones, and why."""
    remedy = "name IPPools in an annotation or the CNI configuration, or mark one as default"
    if unreadable:
        remedy = f"{remedy}; `orbctl verify` lists {aggregate(unreadable.values())}"
    return NoPoolAvailable(
        "no IPPool available, no pool selection rules of any type are specified", remedy=remedy
    )


def no_candidate(pod: PodFacts, interface: str, candidates: Candidates) -> NoPoolAvailable:
    """The level that applies leaves the requesting NIC without any pool."""
    source = SOURCE_WORDS[candidates.source]
    relevant = aggregate(note.text for note in candidates.notes)
    return NoPoolAvailable(
        f"no IPPool available, {source} gives NIC {interface} no IPPool: {relevant}",
        subject=pod_subject(pod),
        remedy="name an existing IPPool of an enabled IP version for this NIC",
    )


def no_item_left(selection: Selection) -> NoPoolAvailable:
    """The endpoint has the NICs of all items, and an ADD requests another NIC."""
    source, count = SOURCE_WORDS[selection.source], len(selection.nics)
    return NoPoolAvailable(
        f"no IPPool available, {source} has {count} items, and NICs of the Pod use them all",
        remedy="add an item for every NIC of the Pod",
        verdicts=selection.verdicts,
    )


def duplicate_pool(pod: PodFacts, interface: str, family: Family, name: str) -> WrongInput:
    """One pool named twice for one NIC."""
    message = f"wrong input, duplicate IPPool {name} specified for NIC {interface}"
    return WrongInput(
        message,
        subject=pod_subject(pod),
        remedy="name each IPPool once",
        verdicts=(_unusable(interface, family, name, DUPLICATE, message),),
    )


def missing_pool(interface: str, family: Family, name: str, why: str = "") -> AllocationError:
    """A pool that does not exist fails the whole request: no other candidate is tried.

    ``why``: it is stored and cannot be read.
    """
    remedy = f"create {FAMILY_NAMES[family]} IPPool {name} or correct the name"
    message = f'failed to get original IPPool {name}: SpiderIPPool "{name}" not found'
    if why:
        remedy = "`orbctl verify` names what cannot be read, and what to do"
        message = f"failed to get original IPPool {name}: {why}"
    return AllocationError(
        message,
        subject=f"SpiderIPPool/{name}",
        remedy=remedy,
        verdicts=(_unusable(interface, family, name, MISSING, message)._replace(detail=why),),
    )


def missing_pool_of(error: AllocationError) -> str:
    """The pool whose absence fails a request, "" if that is not the reason."""
    verdicts = (one for one in error.verdicts if isinstance(one, CandidateVerdict))
    return next((one.pool for one in verdicts if one.rule == MISSING), "")


def all_filtered_out(
    pod: PodFacts, lost: Iterable[CandidateVerdict], verdicts: tuple[CandidateVerdict, ...]
) -> NoPoolAvailable:
    """``lost``: the verdicts of one NIC and family, all rejections."""
    lost = tuple(lost)
    names = bracketed(verdict.pool for verdict in lost)
    what = f"all {FAMILY_NAMES[lost[0].family]} IPPools {names} of {lost[0].interface}"
    reasons = aggregate(verdict.reason for verdict in lost)
    return NoPoolAvailable(
        f"no IPPool available, {what} filtered out: {reasons}",
        subject=pod_subject(pod),
        remedy="`orbctl explain` shows each IPPool's conditions and the Pod's values",
        verdicts=verdicts,
    )


def used_out(
    demand: Demand, reasons: Iterable[str], verdicts: tuple[CandidateVerdict, ...]
) -> AddressesUsedOut:
    """All pools of a demand are full; ``reasons``: why each of them."""
    return AddressesUsedOut(
        f"failed to allocate any {FAMILY_NAMES[demand.family]} IP address to NIC {demand.interface}"
        f" from IPPools {bracketed(demand.pools)}: {aggregate(reasons)}",
        subject=" ".join(demand.pools),
        remedy="add addresses to one of these pools, or add a pool to the Pod's annotation",
        verdicts=verdicts,
    )


def describe(selection: Selection) -> str:
    """The whole reasoning, one line per decision, for people."""
    lines = [f"IPPools come from {SOURCE_WORDS[selection.source]}"]
    for demand in selection.demands:
        lines.append(f"NIC {demand.interface} {FAMILY_NAMES[demand.family]}: {_trial(demand)}")
        lines += describe_verdicts(
            verdict
            for verdict in selection.verdicts
            if (verdict.interface, verdict.family) == (demand.interface, demand.family)
        )
    return "\n".join([*lines, *_note_lines(selection.notes)])


def describe_verdicts(verdicts: Iterable[CandidateVerdict]) -> Iterator[str]:
    """One line per verdict: what became of the pool, by which rule, and why."""
    for verdict in verdicts:
        if verdict.accepted:
            yield f"  {verdict.pool}: accepted by {verdict.rule}"
        else:
            reason = verdict.reason or reason_of(verdict.in_short())
            detail = f" ({verdict.detail})" if verdict.detail not in reason else ""
            yield f"  {verdict.pool}: rejected by {verdict.rule}: {reason}{detail}"


def reason_of(verdict: PoolVerdict) -> str:
    """Why a pool was rejected, by an event of the log: what did not fit, else the rule in words."""
    return verdict.detail or _REASONS.get(verdict.rule, f"the rule {verdict.rule}")


def _unusable(
    interface: str, family: Family, name: str, rule: str, reason: str
) -> CandidateVerdict:
    return CandidateVerdict(interface, family, name, accepted=False, rule=rule, reason=reason)


def _trial(demand: Demand) -> str:
    gateway = ", no default route" if demand.clean_gateway else ""
    return f"try {', '.join(demand.pools)}{gateway}"


def _note_lines(notes: Iterable[Note]) -> Iterator[str]:
    for note in notes:
        yield f"note on NIC {note.interface}: {note.text}"
