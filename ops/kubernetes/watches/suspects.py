"""Plans which Pods and owners a scan of claims must read from the API server. Pure.

Two watched objects keep addresses without a read: a living Pod its own, and an owner the fixed
addresses that it needs. All other holders are suspects and are read. A scan of one endpoint reads
in any case, because the endpoint has changed and the watch may be older. The Pods of a VM or of an
IPAMClaim do not have its name; if nothing else keeps its address, the Pods of its namespace are
listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from core.domain.evolution import Ledger
from core.domain.fixed.owners import (
    FixedAddressSwitches,
    FixedSettings,
    MissingOwner,
    OwnerFacts,
    kind_of_holder,
)
from core.domain.fixed.validity import validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.decision_table import SHARED, holder_uid
from core.kubernetes.informer import ObjectKey

_ALL: Final = FixedSettings(ipam_claims=True)


class SuspectHolder(NamedTuple):
    """A holder of addresses: the UIDs of Pods with this name, and the kinds of fixed addresses.

    ``is_shared``: the name is that of a VM instance or IPAMClaim, even if these are switched off.
    """

    uids: frozenset[str] = frozenset()
    kinds: frozenset[FixedKind] = frozenset()
    is_shared: bool = False


class WatchedObjects(NamedTuple):
    """Watched objects: the Pod of a name, the Pod of a UID, owners."""

    named: Callable[[ObjectKey], PodState | None]
    of_uid: Callable[[str], PodState | None]
    owners: OwnerFacts


class PodLookups(NamedTuple):
    """``pods``: read because of ``suspects``; ``answers``: known from watches."""

    suspects: Mapping[ObjectKey, SuspectHolder]
    pods: frozenset[ObjectKey]
    answers: Mapping[ObjectKey, PodState | MissingOwner]

    def owners(self) -> set[tuple[FixedKind, ObjectKey]]:
        """The holders whose owners must be read."""
        return {(kind, key) for key, holder in self.suspects.items() for kind in holder.kinds}

    def machines(self, owners: OwnerFacts) -> frozenset[ObjectKey]:
        """Endpoints whose Pods must be listed, because no VM or IPAMClaim keeps their addresses."""
        return frozenset(
            key
            for key, holder in self.suspects.items()
            if holder.is_shared
            and not any(
                validity_of(kind, *key, owners).keeps for kind in holder.kinds & SHARED.keys()
            )
        )


def plan_lookups(
    ledger: Ledger, switches: FixedAddressSwitches, watched: WatchedObjects, *, read_all: bool
) -> PodLookups:
    """The required reads; ``read_all``: of every holder. Linear in the ledger."""
    suspects = dict(_orphaned_holders(ledger, switches))
    answers: dict[ObjectKey, PodState | MissingOwner] = {}
    for key, endpoint in ledger.endpoints.items():
        # Checked first, because nearly all endpoints belong to a living Pod.
        pod = watched.named(key)
        is_own = pod is not None and pod.uid == endpoint.uid and pod.is_living
        if pod is not None and is_own and not read_all and key not in suspects:
            answers[key] = pod
            continue
        known = suspects.get(key, SuspectHolder())
        suspects[key] = _merged(known, endpoint.holder, endpoint.uid, switches)
    for key, holder in list(suspects.items()) if not read_all else ():
        answer = _kept_by_owner(key, holder, watched)
        if answer is not None:
            answers[key] = answer
            del suspects[key]
    pods = set(suspects)
    for holder in suspects.values():
        watched_pods = (watched.of_uid(uid) for uid in holder.uids)
        pods.update((pod.namespace, pod.name) for pod in watched_pods if pod is not None)
    return PodLookups(suspects, frozenset(pods), answers)


def _orphaned_holders(
    ledger: Ledger, switches: FixedAddressSwitches
) -> Mapping[ObjectKey, SuspectHolder]:
    """Holders of claims that are not in the endpoint of their name."""
    orphaned: dict[ObjectKey, SuspectHolder] = {}
    endpoints = ledger.endpoints
    for held in ledger.claims.values():
        claim = held.claim
        key = claim.namespace, claim.pod
        shown = endpoints.get(key)
        if shown is None or shown.holder != claim.holder:
            orphaned[key] = _merged(orphaned.get(key, SuspectHolder()), claim.holder, "", switches)
    return orphaned


def _merged(
    known: SuspectHolder, holder: str, uid: str, switches: FixedAddressSwitches
) -> SuspectHolder:
    uids = {one for one in (uid, holder_uid(holder)) if one}
    kind = kind_of_holder(holder, switches)
    is_shared = known.is_shared or kind_of_holder(holder, _ALL) in SHARED
    return SuspectHolder(known.uids | uids, known.kinds | ({kind} if kind else set()), is_shared)


def _kept_by_owner(
    key: ObjectKey, holder: SuspectHolder, watched: WatchedObjects
) -> MissingOwner | None:
    """The answer without a read, if a watched owner keeps the address without a Pod."""
    if watched.named(key) is not None:
        return None
    for kind in holder.kinds:
        validity = validity_of(kind, *key, watched.owners)
        if validity.state == "valid":
            return MissingOwner(certain=False, why=f"fixed: {validity.why}")
    return None
