"""Plans which Pods and owners a reclaim scan must read from the API server. Pure.

A holder is the Pod, replica, VM instance or IPAMClaim that claims belong to. Suspects are holders
for which no watch shows a living Pod or an owner that needs the fixed addresses. Only suspects are
read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import (
    FixedAddressSwitches,
    FixedSettings,
    MissingOwner,
    OwnerLookup,
    kind_of_holder,
)
from core.domain.fixed.owner_validity import validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.decision_table import SHARING_OWNERS, holder_uid
from core.domain.reclaim.evidence import PodState
from core.kubernetes.informer import ObjectKey

_ALL_KINDS: Final = FixedSettings(ipam_claims=True)


class SuspectHolder(NamedTuple):
    """A suspect: the UIDs of its Pods, and the kinds of its fixed addresses.

    ``is_shared``: the holder is a VM instance or IPAMClaim, so two Pods may share its addresses.
    The switches for fixed addresses do not change ``is_shared``.
    """

    uids: frozenset[str] = frozenset()
    kinds: frozenset[FixedKind] = frozenset()
    is_shared: bool = False


class WatchedObjects(NamedTuple):
    """Functions that find a watched Pod by name or UID, and the watched owners."""

    named: Callable[[ObjectKey], PodState | None]
    of_uid: Callable[[str], PodState | None]
    owners: OwnerLookup


class PodLookups(NamedTuple):
    """What a scan must read.

    ``pods``: the Pods to read for the suspects. ``answers``: the results for all other holders.
    """

    suspects: Mapping[ObjectKey, SuspectHolder]
    pods: frozenset[ObjectKey]
    answers: Mapping[ObjectKey, PodState | MissingOwner]

    def owners(self) -> set[tuple[FixedKind, ObjectKey]]:
        """Kind and name of each owner that the scan must read."""
        return {(kind, key) for key, holder in self.suspects.items() for kind in holder.kinds}

    def endpoints_to_list(self, owners: OwnerLookup) -> frozenset[ObjectKey]:
        """Endpoints of VMs and IPAMClaims whose addresses no owner needs.

        All Pods of their namespaces must be listed, because the name of a VM's Pod is not that of
        the endpoint.
        """
        return frozenset(
            key
            for key, holder in self.suspects.items()
            if holder.is_shared
            and not any(
                validity_of(kind, *key, owners).keeps
                for kind in holder.kinds & SHARING_OWNERS.keys()
            )
        )


def plan_lookups(
    ledger: Ledger, switches: FixedAddressSwitches, watched: WatchedObjects, *, read_all: bool
) -> PodLookups:
    """Plan the reads of a scan. ``read_all``: every holder is a suspect."""
    suspects = dict(_orphaned_holders(ledger, switches))
    answers: dict[ObjectKey, PodState | MissingOwner] = {}
    for key, endpoint in ledger.endpoints.items():
        # Checked first, because nearly all endpoints belong to a living Pod.
        pod = watched.named(key)
        is_own = pod is not None and pod.uid == endpoint.uid and pod.is_living
        if pod is not None and is_own and not read_all and key not in suspects:
            answers[key] = pod
            continue
        former = suspects.get(key, SuspectHolder())
        suspects[key] = _merged(former, endpoint.holder, endpoint.uid, switches)
    if not read_all:
        for key, holder in list(suspects.items()):
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
    """Holders of claims whose endpoint is missing or belongs to another holder."""
    orphaned: dict[ObjectKey, SuspectHolder] = {}
    endpoints = ledger.endpoints
    for revised in ledger.claims.values():
        claim = revised.claim
        key = claim.namespace, claim.pod
        endpoint = endpoints.get(key)
        if endpoint is None or endpoint.holder != claim.holder:
            orphaned[key] = _merged(
                orphaned.get(key, SuspectHolder()), claim.holder, uid="", switches=switches
            )
    return orphaned


def _merged(
    former: SuspectHolder, holder: str, uid: str, switches: FixedAddressSwitches
) -> SuspectHolder:
    """``former`` with the UIDs and the kind of another holder of the same name."""
    uids = {uid, holder_uid(holder)} - {""}
    kind = kind_of_holder(holder, switches)
    kinds = {kind} if kind else set()
    is_shared = former.is_shared or kind_of_holder(holder, _ALL_KINDS) in SHARING_OWNERS
    return SuspectHolder(former.uids | uids, former.kinds | kinds, is_shared)


def _kept_by_owner(
    key: ObjectKey, holder: SuspectHolder, watched: WatchedObjects
) -> MissingOwner | None:
    """The answer "unknown, because a watched owner needs the addresses"; None if none needs them.

    Also None if a Pod of this name is watched.
    """
    if watched.named(key) is not None:
        return None
    for kind in holder.kinds:
        validity = validity_of(kind, *key, watched.owners)
        if validity.state == "valid":
            return MissingOwner(certain=False, why=f"fixed: {validity.why}")
    return None
