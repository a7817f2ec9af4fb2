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
from core.domain.fixed.kinds import FixedSettings, Switches, kind_of_holder
from core.domain.fixed.owners import Missing, OwnerFacts
from core.domain.fixed.validity import validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.judging import holder_uid
from core.kubernetes.informer import ObjectKey

_ALL: Final = FixedSettings()


class Suspect(NamedTuple):
    """Who holds something under one name: UIDs of Pods, and how it is fixed.

    ``is_vm``: the name is that of a VM instance, whether or not VMs have fixed addresses now.
    """

    uids: frozenset[str] = frozenset()
    kinds: frozenset[FixedKind] = frozenset()
    is_vm: bool = False


class Seen(NamedTuple):
    """What watches have shown: the Pod of a name, the Pod of a UID, owners."""

    named: Callable[[ObjectKey], PodState | None]
    of_uid: Callable[[str], PodState | None]
    owners: OwnerFacts


class Questions(NamedTuple):
    """``suspects`` are not clear, so ``pods`` are asked about; ``answers`` are clear without."""

    suspects: Mapping[ObjectKey, Suspect]
    pods: frozenset[ObjectKey]
    answers: Mapping[ObjectKey, PodState | Missing]

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


def questions(ledger: Ledger, switches: Switches, seen: Seen, *, closely: bool) -> Questions:
    """What is not clear; ``closely``: nothing is. Linear in the ledger, which may be large."""
    suspects = dict(_strays(ledger, switches))
    answers: dict[ObjectKey, PodState | Missing] = {}
    for key, endpoint in ledger.endpoints.items():
        # Nearly all are of a living Pod that has what is its own, so that is asked first.
        pod = seen.named(key)
        is_own = pod is not None and pod.uid == endpoint.uid and pod.is_living
        if pod is not None and is_own and not closely and key not in suspects:
            answers[key] = pod
            continue
        known = suspects.get(key, Suspect())
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
    return Questions(suspects, frozenset(pods), answers)


def _strays(ledger: Ledger, switches: Switches) -> Mapping[ObjectKey, Suspect]:
    """Holders of claims that the endpoint of their name does not speak of."""
    found: dict[ObjectKey, Suspect] = {}
    endpoints = ledger.endpoints
    for held in ledger.claims.values():
        claim = held.claim
        key = claim.namespace, claim.pod
        shown = endpoints.get(key)
        if shown is None or shown.holder != claim.holder:
            found[key] = _joined(found.get(key, Suspect()), claim.holder, "", switches)
    return found


def _joined(known: Suspect, holder: str, uid: str, switches: Switches) -> Suspect:
    uids = {one for one in (uid, holder_uid(holder)) if one}
    kind = kind_of_holder(holder, switches)
    is_vm = known.is_vm or kind_of_holder(holder, _ALL) == "vm"
    return Suspect(known.uids | uids, known.kinds | ({kind} if kind else set()), is_vm)


def _wanted(key: ObjectKey, one: Suspect, seen: Seen) -> Missing | None:
    """That nobody has to look for a Pod, since the owner wants its address without one."""
    if seen.named(key) is not None:
        return None
    for kind in one.kinds:
        found = validity_of(kind, *key, seen.owners)
        if found.state == "valid":
            return Missing(certain=False, why=f"fixed: {found.why}")
    return None
