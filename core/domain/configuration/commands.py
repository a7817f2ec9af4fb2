"""What a user or operator wants of the configuration: one value per command.

Commands are wishes: they carry what was asked for and prove nothing.
``core.domain.configuration.decisions`` turns a command into events or refuses it. Allocation and
release are ``core.domain.claims.claim_decisions``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from core.domain.autopools.pool_plan import DesiredPool
from core.domain.events import RecordDefined
from core.domain.model import ConflictingHost, Pool, Reservation, Subnet


class ApplyPool(NamedTuple):
    """Create the pool, or change it to be exactly this; ``pool.retiring`` is ignored."""

    pool: Pool


class RetirePool(NamedTuple):
    """Begin deletion: no new claims, releases go on."""

    name: str


class DeletePool(NamedTuple):
    """Remove the pool; only possible while nothing is claimed in it."""

    name: str


class ApplySubnet(NamedTuple):
    """Create the subnet, or change it to be exactly this; ``subnet.retiring`` is ignored.

    Pools of its CIDR that belong to nobody are adopted: a bounded number at a time, so whoever
    wants all of them repeats the command until it makes no event.
    """

    subnet: Subnet


class RetireSubnet(NamedTuple):
    """Begin deletion of the subnet and of its pools, a bounded number at a time as above."""

    name: str


class DeleteSubnet(NamedTuple):
    """Remove the subnet; only possible while no pool belongs to it."""

    name: str


Retirable = Literal["pool", "subnet"]


class Reinstate(NamedTuple):
    """End a retirement: the pool or subnet serves again; of a subnet, its pools do not yet."""

    kind: Retirable
    name: str


class AdvanceRetirement(NamedTuple):
    """Go on with a retirement as far as it goes, and never begin one.

    A retiring pool is deleted when nothing is claimed in it, a retiring subnet when no pool belongs
    to it; its pools retire first, a bounded number at a time as above. Otherwise there is no event,
    also when it is not retiring or not there at all.
    """

    kind: Retirable
    name: str


class ApplyAutoPool(NamedTuple):
    """Make, resize or adopt an application's pool; its addresses are found when it is decided."""

    desired: DesiredPool


class DropAutoPool(NamedTuple):
    """Delete an automatic pool as far as nothing is claimed in it and it is still that ``uid``'s.

    Otherwise there is no event; with ``retire`` a pool in use stops handing out addresses.
    """

    name: str
    uid: str
    retire: bool = False


class ApplyReservation(NamedTuple):
    """Create the reservation, or change it to be exactly this."""

    reservation: Reservation


class DeleteReservation(NamedTuple):
    """Remove the reservation; its addresses may be handed out again."""

    name: str


class QuarantineAddress(NamedTuple):
    """Set an address aside. ``reason`` for people, ``evidence`` who saw what (a MAC, a node).

    Without a ``stranger`` a person says so, and nothing but a person lifts it.
    """

    address: str
    reason: str
    evidence: str = ""
    stranger: ConflictingHost | None = None


class LiftQuarantine(NamedTuple):
    """Let the address be handed out again."""

    address: str
    reason: str = ""


class ReturnAddress(NamedTuple):
    """Lift the quarantine that was made because of this very stranger; otherwise no event."""

    address: str
    stranger: ConflictingHost
    reason: str = ""


class ApplyRecord(NamedTuple):
    """Say what is known of a Pod, Namespace, Node or application (standalone mode)."""

    record: RecordDefined


class DeleteRecord(NamedTuple):
    """Forget a record; ``namespace`` is "" for a Namespace or Node."""

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
