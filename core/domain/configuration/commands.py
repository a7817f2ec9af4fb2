"""Commands that change the configuration, as plain values.

``core.domain.configuration.decisions`` turns a command into events or refuses it. Allocation and
release are in ``core.domain.claims.claim_decisions``.
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
    """Begin deletion: new claims are refused, releases are not."""

    name: str


class DeletePool(NamedTuple):
    """Remove the pool; only possible while nothing is claimed in it."""

    name: str


class ApplySubnet(NamedTuple):
    """Create the subnet, or change it to be exactly this; ``subnet.retiring`` is ignored.

    Pools of its CIDR without a subnet are adopted, a limited number at a time: repeat the command
    until it makes no event to adopt them all.
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
    """Continue a retirement; it never begins one.

    A retiring pool is deleted if it has no claims, a retiring subnet if no pool belongs to it; its
    pools retire first, a limited number at a time. Otherwise there is no event, also if the object
    is not retiring or does not exist.
    """

    kind: Retirable
    name: str


class ApplyAutoPool(NamedTuple):
    """Make, resize or adopt an application's pool; its addresses are found when it is decided."""

    desired: DesiredPool


class DropAutoPool(NamedTuple):
    """Delete an automatic pool if it has no claims and still belongs to this ``uid``.

    Otherwise there is no event; with ``retire``, a pool with claims begins to retire.
    """

    name: str
    uid: str
    retire: bool = False


class ApplyReservation(NamedTuple):
    """Create the reservation, or change it to be exactly this."""

    reservation: Reservation


class DeleteReservation(NamedTuple):
    """Delete the reservation; its addresses can be claimed again."""

    name: str


class QuarantineAddress(NamedTuple):
    """Quarantine an address; ``evidence``: what was observed (a MAC address, a node).

    ``conflicting_host`` None for a quarantine by a user, which only a user lifts.
    """

    address: str
    reason: str
    evidence: str = ""
    conflicting_host: ConflictingHost | None = None


class LiftQuarantine(NamedTuple):
    """Lift the quarantine; the address can be claimed again."""

    address: str
    reason: str = ""


class ReturnAddress(NamedTuple):
    """Lift the quarantine if it was made because of this conflicting host; otherwise no event."""

    address: str
    conflicting_host: ConflictingHost
    reason: str = ""


class ApplyRecord(NamedTuple):
    """Record a Pod, Namespace, Node or application (standalone mode), or a SpiderCoordinator."""

    record: RecordDefined


class DeleteRecord(NamedTuple):
    """Forget a record; ``namespace`` is "" for a kind without namespaces."""

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
