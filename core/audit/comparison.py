"""What differs between two states of one cluster: objects and addresses, by name.

Pure: compares two ledgers. The later one may hold objects that were deleted and created again in
between; the log alone tells that (``core.audit.history``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, get_args

from core.audit.object_history import ConfigurationObject, changes_between, described
from core.domain.addresses.ip_address import parse_address
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger, RevisedClaim
from core.domain.model import Quarantine
from core.domain.sriov.model import GuidClaim

ComparedKind = Literal["pool", "subnet", "reservation", "record", "quarantine", "address", "guid"]
COMPARED_KINDS: Final[tuple[ComparedKind, ...]] = get_args(ComparedKind)


class Change(NamedTuple):
    """``what``: how an object differs, or for an address who has it and who had it before."""

    change: Literal["added", "removed", "changed"]
    kind: ComparedKind
    name: str
    what: str


def compared(before: Ledger, after: Ledger) -> Iterator[Change]:
    """Every difference, by kind and then by name; addresses in their order."""
    yield from _objects("pool", before.pools, after.pools)
    yield from _objects("subnet", before.subnets, after.subnets)
    yield from _objects("reservation", before.reservations, after.reservations)
    yield from _objects("record", _by_path(before), _by_path(after))
    for address in _addresses(before.quarantine, after.quarantine):
        was, now = before.quarantine.get(address), after.quarantine.get(address)
        yield from _change("quarantine", address, _reason(was), _reason(now))
    for address in _addresses(before.claims, after.claims):
        yield from _change(
            "address",
            address,
            _holder(before.claims.get(address)),
            _holder(after.claims.get(address)),
        )
    for guid in sorted(before.guids.keys() | after.guids.keys()):
        was_of, now_of = before.guids.get(guid), after.guids.get(guid)
        yield from _change("guid", guid, _function(was_of), _function(now_of))


def _objects(
    kind: ComparedKind,
    before: Mapping[str, ConfigurationObject],
    after: Mapping[str, ConfigurationObject],
) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None:
            if was != now:
                yield Change("changed", kind, name, changes_between(was, now))
        elif now is not None:
            yield Change("added", kind, name, described(now))
        elif was is not None:
            yield Change("removed", kind, name, described(was))


def _by_path(ledger: Ledger) -> dict[str, RecordDefined]:
    return {"/".join(filter(None, path)): record for path, record in ledger.records.items()}


def _change(kind: ComparedKind, name: str, was: str, now: str) -> Iterator[Change]:
    if was == now:
        return
    if was and now:
        yield Change("changed", kind, name, f"{was} -> {now}")
    else:
        yield Change("added" if now else "removed", kind, name, now or was)


def _addresses(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return sorted(before.keys() | after.keys(), key=parse_address)


def _reason(quarantine: Quarantine | None) -> str:
    return quarantine.reason or "no reason" if quarantine else ""


def _function(claim: GuidClaim | None) -> str:
    return f"virtual function {claim.vf} of {claim.nic} on {claim.node}" if claim else ""


def _holder(held: RevisedClaim | None) -> str:
    if held is None:
        return ""
    claim = held.claim
    return f"{claim.namespace}/{claim.pod} ({claim.holder}), pool {claim.pool}"
