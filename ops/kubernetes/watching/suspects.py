"""What a look at claims has to ask about. Pure.

A living Pod that was seen keeps what is its own, and an owner that was seen to want it keeps what
is fixed: nobody has to be asked. Everything else is asked. A look at one endpoint asks in any case:
something has happened to it, and what was seen may be what was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from core.domain.evolution import Ledger
from core.domain.fixed.kinds import Switches, kind_of_holder
from core.domain.fixed.owners import Missing, OwnerFacts
from core.domain.fixed.validity import validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.judging import holder_uid
from core.kubernetes.informer import ObjectKey


class Suspect(NamedTuple):
    """Who holds something under one name: UIDs of Pods, and how it is fixed."""

    uids: frozenset[str] = frozenset()
    kinds: frozenset[FixedKind] = frozenset()


class Questions(NamedTuple):
    """``pods`` and ``owners`` are to be asked about; ``answers`` are clear without."""

    pods: frozenset[ObjectKey]
    owners: frozenset[tuple[FixedKind, ObjectKey]]
    answers: Mapping[ObjectKey, PodState | Missing]


def suspects_of(ledger: Ledger, switches: Switches) -> dict[ObjectKey, Suspect]:
    """By name: everybody who holds an address or has an endpoint; linear in the ledger."""
    found: dict[ObjectKey, Suspect] = {}
    for key, endpoint in ledger.endpoints.items():
        found[key] = _joined(Suspect(), endpoint.holder, endpoint.uid, switches)
    for held in ledger.claims.values():
        claim = held.claim
        key = claim.namespace, claim.pod
        shown = ledger.endpoints.get(key)
        if shown is None or shown.holder != claim.holder:
            found[key] = _joined(found.get(key, Suspect()), claim.holder, "", switches)
    return found


def _joined(known: Suspect, holder: str, uid: str, switches: Switches) -> Suspect:
    uids = {one for one in (uid, holder_uid(holder)) if one}
    kind = kind_of_holder(holder, switches)
    return Suspect(known.uids | uids, known.kinds | ({kind} if kind else set()))


def questions(
    suspects: Mapping[ObjectKey, Suspect],
    named: Callable[[ObjectKey], PodState | None],
    of_uid: Callable[[str], PodState | None],
    owners: OwnerFacts,
    *,
    closely: bool,
) -> Questions:
    """What is not clear. ``closely``: nothing is."""
    pods: set[ObjectKey] = set()
    asked: set[tuple[FixedKind, ObjectKey]] = set()
    answers: dict[ObjectKey, PodState | Missing] = {}
    for key, one in suspects.items():
        clear = None if closely else _clear(key, one, named(key), owners)
        if clear is not None:
            answers[key] = clear
            continue
        pods.add(key)
        asked.update((kind, key) for kind in one.kinds)
        for uid in one.uids:
            pod = of_uid(uid)
            if pod is not None:
                pods.add((pod.namespace, pod.name))
    return Questions(frozenset(pods), frozenset(asked), answers)


def _clear(
    key: ObjectKey, one: Suspect, pod: PodState | None, owners: OwnerFacts
) -> PodState | Missing | None:
    """What was seen, if it keeps everything."""
    if pod is not None:
        return pod if pod.is_living and one.uids <= {pod.uid} else None
    for kind in one.kinds:
        found = validity_of(kind, *key, owners)
        if found.state == "valid":
            return Missing(certain=False, why=f"fixed: {found.why}")
    return None
