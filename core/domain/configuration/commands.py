"""Commands that change the configuration; see ``core.domain.configuration.decisions``."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from core.domain.autopools.pool_plan import DesiredPool
from core.domain.events import RecordDefined
from core.domain.model import ConflictingHost, Pool, Reservation, Subnet


class ApplyPool(NamedTuple):
    """Create or replace the pool; ``pool.retiring`` is ignored."""

    pool: Pool


class RetirePool(NamedTuple):
    """Begin to delete the pool: new claims are refused, releases are still accepted."""

    name: str


class DeletePool(NamedTuple):
    """Delete the pool; refused while one of its addresses is claimed."""

    name: str


class ApplySubnet(NamedTuple):
    """Create or replace the subnet; ``subnet.retiring`` is ignored.

    The subnet adopts the pools that have its CIDR and no subnet. Each command adopts a limited
    number of pools: repeat the command until it causes no event.
    """

    subnet: Subnet


class RetireSubnet(NamedTuple):
    """Begin to delete the subnet and its pools; each command retires a limited number of pools."""

    name: str


class DeleteSubnet(NamedTuple):
    """Delete the subnet; refused while a pool belongs to it."""

    name: str


Retirable = Literal["pool", "subnet"]


class Reinstate(NamedTuple):
    """End a retirement: the pool or subnet serves again. A subnet's pools stay retiring."""

    kind: Retirable
    name: str


class AdvanceRetirement(NamedTuple):
    """Continue the retirement of a pool or subnet; no event if the object is not retiring.

    A pool without claims or a subnet without pools is deleted. For a subnet with pools, each
    command retires a limited number of the pools.
    """

    kind: Retirable
    name: str


class ApplyAutoPool(NamedTuple):
    """Create, resize or adopt an application's pool."""

    desired: DesiredPool


class DropAutoPool(NamedTuple):
    """Delete an automatic pool if it has no claims and still belongs to application ``uid``.

    If ``retire`` is set, a pool with claims begins to retire. Otherwise there is no event.
    """

    name: str
    uid: str
    retire: bool = False


class ApplyReservation(NamedTuple):
    """Create or replace the reservation."""

    reservation: Reservation


class DeleteReservation(NamedTuple):
    """Delete the reservation."""

    name: str


class QuarantineAddress(NamedTuple):
    """Quarantine an address. ``evidence``: what was observed (a MAC address, a node).

    ``conflicting_host`` None: a user quarantines the address, and only a user can lift the
    quarantine.
    """

    address: str
    reason: str
    evidence: str = ""
    conflicting_host: ConflictingHost | None = None


class LiftQuarantine(NamedTuple):
    """Lift the quarantine."""

    address: str
    reason: str = ""


class ReturnAddress(NamedTuple):
    """Lift the quarantine if this conflicting host was the cause; otherwise no event."""

    address: str
    conflicting_host: ConflictingHost
    reason: str = ""


class ApplyRecord(NamedTuple):
    """Store a record of an object; ``RecordDefined`` lists the kinds."""

    record: RecordDefined


class DeleteRecord(NamedTuple):
    """Delete a record; ``namespace`` is "" for a kind without namespaces."""

    kind: str
    namespace: str
    name: str


Command: TypeAlias = (
    ApplyPool
    | RetirePool
    | DeletePool
    | ApplySubnet
    | RetireSubnet
    | DeleteSubnet
    | Reinstate
    | AdvanceRetirement
    | ApplyAutoPool
    | DropAutoPool
    | ApplyReservation
    | DeleteReservation
    | QuarantineAddress
    | LiftQuarantine
    | ReturnAddress
    | ApplyRecord
    | DeleteRecord
)
