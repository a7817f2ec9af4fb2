"""Compares two states of one cluster by the names of objects and addresses. Pure.

If an object was deleted and created again between the two states, the comparison does not show the
deletion; the object's history does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, get_args

from core.audit.object_history import ConfigurationObject, changes_between, describe_object
from core.domain.addresses.ip_address import parse_address
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger, RevisedClaim
from core.domain.model import Quarantine
from core.domain.sriov.model import GuidClaim

ComparedKind = Literal["pool", "subnet", "reservation", "record", "quarantine", "address", "guid"]
COMPARED_KINDS: Final[tuple[ComparedKind, ...]] = get_args(ComparedKind)


class Change(NamedTuple):
    """A difference. ``what``: the added value, the removed value, or "old -> new"."""

    change: Literal["added", "removed", "changed"]
    kind: ComparedKind
    name: str
    what: str


def compare_states(before: Ledger, after: Ledger) -> Iterator[Change]:
    """Every difference, in the order of ``COMPARED_KINDS``, then by name or address."""
    yield from _objects("pool", before.pools, after.pools)
    yield from _objects("subnet", before.subnets, after.subnets)
    yield from _objects("reservation", before.reservations, after.reservations)
    yield from _objects("record", _by_path(before), _by_path(after))
    for address in _addresses(before.quarantine, after.quarantine):
        old, new = before.quarantine.get(address), after.quarantine.get(address)
        yield from _change("quarantine", address, _reason(old), _reason(new))
    for address in _addresses(before.claims, after.claims):
        yield from _change(
            "address",
            address,
            _holder(before.claims.get(address)),
            _holder(after.claims.get(address)),
        )
    for guid in sorted(before.guids.keys() | after.guids.keys()):
        old_claim, new_claim = before.guids.get(guid), after.guids.get(guid)
        yield from _change("guid", guid, _function(old_claim), _function(new_claim))


def _objects(
    kind: ComparedKind,
    before: Mapping[str, ConfigurationObject],
    after: Mapping[str, ConfigurationObject],
) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            if old != new:
                yield Change("changed", kind, name, changes_between(old, new))
        elif new is not None:
            yield Change("added", kind, name, describe_object(new))
        elif old is not None:
            yield Change("removed", kind, name, describe_object(old))


def _by_path(ledger: Ledger) -> dict[str, RecordDefined]:
    return {"/".join(filter(None, path)): record for path, record in ledger.records.items()}


def _change(kind: ComparedKind, name: str, old: str, new: str) -> Iterator[Change]:
    if old == new:
        return
    if old and new:
        yield Change("changed", kind, name, f"{old} -> {new}")
    elif new:
        yield Change("added", kind, name, new)
    else:
        yield Change("removed", kind, name, old)


def _addresses(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return sorted(before.keys() | after.keys(), key=parse_address)


def _reason(quarantine: Quarantine | None) -> str:
    return quarantine.reason or "no reason" if quarantine else ""


def _function(claim: GuidClaim | None) -> str:
    return f"virtual function {claim.vf} of {claim.nic} on {claim.node}" if claim else ""


def _holder(revised_claim: RevisedClaim | None) -> str:
    if revised_claim is None:
        return ""
    claim = revised_claim.claim
    return f"{claim.namespace}/{claim.pod} ({claim.holder}), pool {claim.pool}"
