"""What a look at claims has to ask about. Pure.

A living Pod that was seen keeps what is its own, and an owner that was seen to want it keeps what
is fixed: nobody has to be asked. Everything else is asked. A look at one endpoint asks in any case:
something has happened to it, and what was seen may be what was before. The Pods of a VM are not
found by its name: where nothing else keeps its address, those of its namespace are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from core.domain.evolution import Ledger
from core.domain.fixed.kinds import FixedAddressSwitches, FixedSettings, kind_of_holder
from core.domain.fixed.owners import MissingOwner, OwnerFacts
from core.domain.fixed.validity import validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.decision_table import holder_uid
from core.kubernetes.informer import ObjectKey

_ALL: Final = FixedSettings()


class SuspectHolder(NamedTuple):
    """Who holds something under one name: UIDs of Pods, and how it is fixed.

    ``is_vm``: the name is that of a VM instance, whether or not VMs have fixed addresses now.
    """

    uids: frozenset[str] = frozenset()
    kinds: frozenset[FixedKind] = frozenset()
    is_vm: bool = False


class WatchedObjects(NamedTuple):
    """What watches have shown: the Pod of a name, the Pod of a UID, owners."""

    named: Callable[[ObjectKey], PodState | None]
    of_uid: Callable[[str], PodState | None]
    owners: OwnerFacts


class PodLookups(NamedTuple):
    """``suspects`` are not clear, so ``pods`` are asked about; ``answers`` are clear without."""

    suspects: Mapping[ObjectKey, SuspectHolder]
    pods: frozenset[ObjectKey]
    answers: Mapping[ObjectKey, PodState | MissingOwner]

    def owners(self) -> set[tuple[FixedKind, ObjectKey]]:
        """Whose owners are asked about."""
        return {(kind, key) for key, one in self.suspects.items() for kind in one.kinds}

    def machines(self, owners: OwnerFacts) -> frozenset[ObjectKey]:
        """VM instances whose Pods are asked about: nothing is known to keep their addresses."""
        return frozenset(
            key
            for key, one in self.suspects.items()
            if one.is_vm and not ("vm" in one.kinds and validity_of("vm", *key, owners).keeps)
        )


def questions(
    ledger: Ledger, switches: FixedAddressSwitches, seen: WatchedObjects, *, closely: bool
) -> PodLookups:
    """What is not clear; ``closely``: nothing is. Linear in the ledger, which may be large."""
    suspects = dict(_strays(ledger, switches))
    answers: dict[ObjectKey, PodState | MissingOwner] = {}
    for key, endpoint in ledger.endpoints.items():
        # Nearly all are of a living Pod that has what is its own, so that is asked first.
        pod = seen.named(key)
        is_own = pod is not None and pod.uid == endpoint.uid and pod.is_living
        if pod is not None and is_own and not closely and key not in suspects:
            answers[key] = pod
            continue
        known = suspects.get(key, SuspectHolder())
        suspects[key] = _joined(known, endpoint.holder, endpoint.uid, switches)
    for key, one in list(suspects.items()) if not closely else ():
        wanted = _wanted(key, one, seen)
        if wanted is not None:
            answers[key] = wanted
            del suspects[key]
    pods = set(suspects)
    for one in suspects.values():
        found = (seen.of_uid(uid) for uid in one.uids)
        pods.update((pod.namespace, pod.name) for pod in found if pod is not None)
    return PodLookups(suspects, frozenset(pods), answers)


def _strays(ledger: Ledger, switches: FixedAddressSwitches) -> Mapping[ObjectKey, SuspectHolder]:
    """Holders of claims that the endpoint of their name does not speak of."""
    found: dict[ObjectKey, SuspectHolder] = {}
    endpoints = ledger.endpoints
    for held in ledger.claims.values():
        claim = held.claim
        key = claim.namespace, claim.pod
        shown = endpoints.get(key)
        if shown is None or shown.holder != claim.holder:
            found[key] = _joined(found.get(key, SuspectHolder()), claim.holder, "", switches)
    return found


def _joined(
    known: SuspectHolder, holder: str, uid: str, switches: FixedAddressSwitches
) -> SuspectHolder:
    uids = {one for one in (uid, holder_uid(holder)) if one}
    kind = kind_of_holder(holder, switches)
    is_vm = known.is_vm or kind_of_holder(holder, _ALL) == "vm"
    return SuspectHolder(known.uids | uids, known.kinds | ({kind} if kind else set()), is_vm)


def _wanted(key: ObjectKey, one: SuspectHolder, seen: WatchedObjects) -> MissingOwner | None:
    """That nobody has to look for a Pod, since the owner wants its address without one."""
    if seen.named(key) is not None:
        return None
    for kind in one.kinds:
        found = validity_of(kind, *key, seen.owners)
        if found.state == "valid":
            return MissingOwner(certain=False, why=f"fixed: {found.why}")
    return None
