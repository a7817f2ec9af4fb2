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
    """Create the pool, or make the existing one equal to this; ``pool.retiring`` is ignored."""

    pool: Pool


class RetirePool(NamedTuple):
    """Begin deletion: new claims are refused, releases are not."""

    name: str


class DeletePool(NamedTuple):
    """Delete the pool; refused while one of its addresses is claimed."""

    name: str


class ApplySubnet(NamedTuple):
    """Create the subnet, or make the existing one equal to this; ``subnet.retiring`` is ignored.

    The subnet adopts the pools of its CIDR that have no subnet, a limited number with each command:
    repeat the command until it causes no event.
    """

    subnet: Subnet


class RetireSubnet(NamedTuple):
    """Begin deletion of the subnet and its pools, a limited number of pools with each command."""

    name: str


class DeleteSubnet(NamedTuple):
    """Delete the subnet; refused while a pool belongs to it."""

    name: str


Retirable = Literal["pool", "subnet"]


class Reinstate(NamedTuple):
    """End a retirement: the pool or subnet serves again. Pools of a subnet stay retiring."""

    kind: Retirable
    name: str


class AdvanceRetirement(NamedTuple):
    """Continue a retirement; it never begins one.

    A retiring pool is deleted if it has no claims. A retiring subnet is deleted if no pool belongs
    to it; before that its pools retire, a limited number with each command. Otherwise there is no
    event, also if the object is not retiring or does not exist.
    """

    kind: Retirable
    name: str


class ApplyAutoPool(NamedTuple):
    """Create, resize or adopt an application's pool. The decision chooses its addresses."""

    desired: DesiredPool


class DropAutoPool(NamedTuple):
    """Delete an automatic pool if it has no claims and still belongs to this ``uid``.

    With ``retire``, a pool with claims begins to retire instead. In all other cases there is no
    event.
    """

    name: str
    uid: str
    retire: bool = False


class ApplyReservation(NamedTuple):
    """Create the reservation, or make the existing one equal to this."""

    reservation: Reservation


class DeleteReservation(NamedTuple):
    """Delete the reservation; its addresses can be claimed again."""

    name: str


class QuarantineAddress(NamedTuple):
    """Quarantine an address. ``evidence``: what was observed (a MAC address, a node).

    ``conflicting_host`` None: a user quarantines it, and only a user lifts the quarantine.
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
