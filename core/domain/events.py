"""What has happened: the event types of the log, and the metadata each carries.

An event is a past-tense fact and never changes. Its wire name is ``TYPE_NAMES[type(event)]`` and
its schema version ``SCHEMA_VERSION``; a field may be added at the end with a default, anything else
is a new version with an upcaster (``core.domain.upcasters``). Events carry what a reader needs to
fold them without looking anything up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet, Workload
from core.domain.services import EndpointSlice, Service

ReleaseReason = Literal[
    "deleted",  # CNI DEL, or the Pod object is gone
    "superseded",  # a new Pod of the same name asked for addresses
    "pools-changed",  # a fixed Pod's template names other pools
    "conflict",  # a stranger uses the address
    "gc",  # the runtime no longer knows the attachment
    "operator",  # a person said so
    "reclaimed",  # the reclaim workflow found it leaked
    "unbound",  # the network provider did not bind them
    "repair",  # the state contradicted itself: verify --repair, or an ADD that met it
]


class PoolDefined(NamedTuple):
    """A pool was created or changed; ``pool`` is its whole new state."""

    pool: Pool


class PoolRetired(NamedTuple):
    """Deletion has begun: no new claims, releases go on."""

    name: str


class PoolDeleted(NamedTuple):
    """The pool is gone; nothing was claimed in it."""

    name: str


class SubnetDefined(NamedTuple):
    """A subnet was created or changed; ``subnet`` is its whole new state."""

    subnet: Subnet


class SubnetRetired(NamedTuple):
    """Deletion has begun: its pools go, no automatic pool is made in it any more."""

    name: str


class SubnetDeleted(NamedTuple):
    """The subnet is gone; no pool belonged to it."""

    name: str


class ReservationDefined(NamedTuple):
    """A reservation was created or changed."""

    reservation: Reservation


class ReservationDeleted(NamedTuple):
    """A reservation is gone."""

    name: str


class AddressQuarantined(NamedTuple):
    """An address was set aside because a stranger uses it."""

    quarantine: Quarantine


class QuarantineLifted(NamedTuple):
    """The address may be handed out again."""

    address: str
    reason: str = ""


class RecordDefined(NamedTuple):
    """What an operator says of a Pod, Namespace, Node, application or Service in standalone mode.

    ``kind`` is ``Pod``, ``Namespace``, ``Node``, a built-in kind of application, ``Service`` or
    ``EndpointSlice``. ``owner`` is the controller of a Pod or application, "" for none;
    ``replicas`` and ``ordinals_start`` are what an application wants that says so. Applications
    alone have ``uid`` and ``workload``, Services and their slices the fields of their names.
    """

    kind: str
    namespace: str
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_kind: str = ""
    owner_name: str = ""
    owner_api_version: str = ""
    replicas: int = 0
    ordinals_start: int = 0
    api_version: str = ""
    uid: str = ""
    workload: Workload | None = None
    service: Service | None = None
    slice: EndpointSlice | None = None


class RecordDeleted(NamedTuple):
    """The record is gone."""

    kind: str
    namespace: str
    name: str


class AddressesClaimed(NamedTuple):
    """All addresses of one request were claimed (I4).

    ``endpoint`` is the endpoint after the claim, ``new_nics`` the indexes into ``endpoint.nics`` of
    those that are new with this event.
    """

    endpoint: Endpoint
    new_nics: tuple[int, ...]


class EndpointChanged(NamedTuple):
    """The endpoint changed, its addresses did not; ``endpoint`` is the state after it.

    A new sandbox, a NIC name filled in, or a fixed Pod that moved to a new UID and node.
    """

    endpoint: Endpoint


class Release(NamedTuple):
    """One address that was given up, and the claim that ended (its revision, I3)."""

    address: str
    pool: str
    holder: str
    claim_revision: int


class AddressesReleased(NamedTuple):
    """Addresses of one endpoint were released.

    ``nics``: the NICs the endpoint keeps; an endpoint that keeps none is gone. ``evidence`` is what
    proves that the holder is gone (I6).
    """

    namespace: str
    name: str
    releases: tuple[Release, ...]
    nics: tuple[Nic, ...]
    reason: ReleaseReason
    evidence: str = ""

    def addresses(self) -> tuple[str, ...]:
        """The addresses whose claims end."""
        return tuple(release.address for release in self.releases)


Event = (
    PoolDefined
    | PoolRetired
    | PoolDeleted
    | ReservationDefined
    | ReservationDeleted
    | AddressQuarantined
    | QuarantineLifted
    | RecordDefined
    | RecordDeleted
    | AddressesClaimed
    | EndpointChanged
    | AddressesReleased
    | SubnetDefined
    | SubnetRetired
    | SubnetDeleted
)

SCHEMA_VERSION = 1
"""Schema version of every type below; types get versions of their own when one first changes."""

EVENT_TYPES: dict[str, type[Event]] = {
    "pool-defined": PoolDefined,
    "pool-retired": PoolRetired,
    "pool-deleted": PoolDeleted,
    "reservation-defined": ReservationDefined,
    "reservation-deleted": ReservationDeleted,
    "address-quarantined": AddressQuarantined,
    "quarantine-lifted": QuarantineLifted,
    "record-defined": RecordDefined,
    "record-deleted": RecordDeleted,
    "addresses-claimed": AddressesClaimed,
    "endpoint-changed": EndpointChanged,
    "addresses-released": AddressesReleased,
    "subnet-defined": SubnetDefined,
    "subnet-retired": SubnetRetired,
    "subnet-deleted": SubnetDeleted,
}
"""Wire name -> type. Names are for ever: logs hold them."""

TYPE_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENT_TYPES.items()}


class Cause(NamedTuple):
    """Who wanted it and why: the metadata that the caller knows."""

    actor: str
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class Recorded(NamedTuple):
    """An event as read from the log.

    ``position`` (etcd revision) and ``place`` (index in the segment) order all events totally.
    ``recorded_at_ms``: Unix milliseconds by the writer's clock; order never depends on it.
    """

    position: int
    place: int
    event_id: str
    recorded_at_ms: int
    writer: str
    cause: Cause
    event: Event
