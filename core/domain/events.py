"""The event types of the log, the metadata of each event, and upcasters of old versions.

An event has all data that a reader needs to compute the next state.

A field may be added at the end with a default. Any other change of a type needs a higher version in
``EVENT_VERSIONS`` and an upcaster in ``UPCASTERS``. An upcaster is never removed, because logs keep
old events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.coordinators import Coordinator
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet, Workload
from core.domain.services import EndpointSlice, Service
from core.domain.sriov.model import VfGuid

ReleaseReason = Literal[
    "deleted",  # CNI DEL, or the Pod object is gone
    "superseded",  # a new Pod of the same name requested addresses
    "pools-changed",  # the Pod template no longer lists the pools of fixed addresses
    "conflict",  # another host uses the address
    "gc",  # the runtime's list of valid attachments lacks the attachment
    "operator",  # a user released the address
    "reclaimed",  # the reclaim workflow found that the address had leaked
    "unbound",  # the network provider could not bind the address, or bound another address
    "repair",  # `orbctl verify --repair` or an ADD found the state inconsistent
]

GuidReleaseReason = Literal[
    "removed",  # the virtual function or its NIC is gone
    "replaced",  # the virtual function has another GUID
    "moved",  # the NIC is in another node or slot
    "node-deleted",
]


class PoolDefined(NamedTuple):
    """A pool was created or changed; ``pool`` is its whole new state."""

    pool: Pool


class PoolRetired(NamedTuple):
    """The deletion of a pool has begun: new claims are refused, releases are still accepted."""

    name: str


class PoolDeleted(NamedTuple):
    """A pool without claims was deleted."""

    name: str


class SubnetDefined(NamedTuple):
    """A subnet was created or changed; ``subnet`` is its whole new state."""

    subnet: Subnet


class SubnetRetired(NamedTuple):
    """The deletion of a subnet has begun: its pools retire, and no automatic pool is created."""

    name: str


class SubnetDeleted(NamedTuple):
    """A subnet without pools was deleted."""

    name: str


class ReservationDefined(NamedTuple):
    """A reservation was created or changed."""

    reservation: Reservation


class ReservationDeleted(NamedTuple):
    """A reservation was deleted."""

    name: str


class AddressQuarantined(NamedTuple):
    """An address was quarantined: another host uses it, or a user requested the quarantine."""

    quarantine: Quarantine


class QuarantineLifted(NamedTuple):
    """The quarantine of an address was lifted: the address can be claimed again."""

    address: str
    reason: str = ""


class RecordDefined(NamedTuple):
    """A record was created or changed: the stored fields of an object that users apply.

    kind              in standalone mode ``Pod``, ``Namespace``, ``Node``, ``Service``,
                      ``EndpointSlice`` or a built-in kind of application; in Kubernetes
                      ``SpiderCoordinator``
    owner_*           the controller of a Pod or application, "" for none
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
    coordinator: Coordinator | None = None


class RecordDeleted(NamedTuple):
    """A record was deleted."""

    kind: str
    namespace: str
    name: str


class PoolVerdict(NamedTuple):
    """Whether one candidate pool was accepted.

    ``rule``: the rule that decided. ``detail``: the value that did not match.
    """

    interface: str
    family: Family
    pool: str
    accepted: bool
    rule: str
    detail: str = ""


class AddressesClaimed(NamedTuple):
    """All addresses of one request were claimed.

    ``new_nics``: the indexes in ``endpoint.nics`` of the added NICs. ``source``: the level of pool
    selection that named the pools; "" without a selection (`orbctl assign`, an import, a repair),
    or in an event older than the field. ``passed_over``: candidate pools that a rule rejected or
    that were full.
    """

    endpoint: Endpoint
    new_nics: tuple[int, ...]
    source: str = ""
    passed_over: tuple[PoolVerdict, ...] = ()


class EndpointChanged(NamedTuple):
    """An endpoint changed, but its addresses stayed.

    Causes: a new sandbox, the first ADD for a NIC without an interface name, or a new Pod with
    the same fixed addresses (another UID, perhaps another node).
    """

    endpoint: Endpoint


class Release(NamedTuple):
    """One released address and the revision of its ended claim."""

    address: str
    pool: str
    holder: str
    claim_revision: int


class AddressesReleased(NamedTuple):
    """Addresses of one endpoint were released.

    ``nics``: the NICs that the endpoint keeps; if empty, the endpoint is deleted. ``evidence``: the
    proof that the holder does not use the addresses.
    """

    namespace: str
    name: str
    releases: tuple[Release, ...]
    nics: tuple[Nic, ...]
    reason: ReleaseReason
    evidence: str = ""

    def addresses(self) -> tuple[str, ...]:
        return tuple(release.address for release in self.releases)


class AllocationRefused(NamedTuple):
    """An ADD got no addresses; nothing changed.

    name, holder       of the endpoint that the ADD would have created
    reason             a reason that ``core.domain.claims.refused_adds`` defines
    message, remedy    as in the result of the ADD; cut if long
    source             the level of pool selection that named the pools, "" for none
    left_out           the number of omitted verdicts
    times              the number of refused ADDs that the event counts
    pod                the Pod's name if the endpoint has another name (as with an IPAMClaim)
    """

    namespace: str
    name: str
    uid: str
    node: str
    holder: str
    interface: str
    reason: str
    message: str
    remedy: str = ""
    source: str = ""
    verdicts: tuple[PoolVerdict, ...] = ()
    left_out: int = 0
    times: int = 1
    pod: str = ""


class ApplicationScaled(NamedTuple):
    """The number of Pods that an application specifies was recorded; no state changed.

    If an automatic pool is resized because of this number, the pool's event is in the same segment
    and has the id of this event as its ``causation_id``.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    replicas: int


class BindingChanged(NamedTuple):
    """The binding of an endpoint's addresses at a network provider has changed.

    ``state``: the new state, a key of ``BINDING_WORDS``. ``why``: the failure, or the evidence for
    the release. The binding has its own key in etcd; no reader computes the binding from this
    event.
    """

    namespace: str
    name: str
    pod: str
    uid: str
    node: str
    addresses: tuple[str, ...]
    state: str
    why: str = ""


BINDING_WORDS: Final[dict[str, str]] = {
    "asked": "asked to bind; the ADD waits",
    "bound": "bound",
    "failed": "the bind failed and is being undone",
    "returning": "asked to unbind; then the addresses are released",
    "released": "unbound and released",
}
"""State of a binding -> its meaning. The provider is asked (docs/concepts/network-provider.md)."""


class GuidsAssigned(NamedTuple):
    """GUIDs were assigned to InfiniBand virtual functions."""

    node: str
    guids: tuple[VfGuid, ...]


class GuidsReleased(NamedTuple):
    """Virtual functions of a node no longer have these GUIDs."""

    node: str
    guids: tuple[VfGuid, ...]
    reason: GuidReleaseReason


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
    | AllocationRefused
    | ApplicationScaled
    | BindingChanged
    | GuidsAssigned
    | GuidsReleased
)

SCHEMA_VERSION = 1

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
    "allocation-refused": AllocationRefused,
    "application-scaled": ApplicationScaled,
    "binding-changed": BindingChanged,
    "guids-assigned": GuidsAssigned,
    "guids-released": GuidsReleased,
}
"""Name in the log -> type. Names never change, because logs store them."""

TYPE_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENT_TYPES.items()}


class Cause(NamedTuple):
    """The actor of an event, and the request or event that caused it."""

    actor: str
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class Recorded(NamedTuple):
    """An event as read from the log.

    ``position`` (etcd revision) and ``index_in_segment`` order all events totally.
    ``recorded_at_ms``: Unix milliseconds by the writer's clock, which does not affect the order.
    """

    position: int
    index_in_segment: int
    event_id: str
    recorded_at_ms: int
    writer: str
    cause: Cause
    event: Event


EVENT_VERSIONS: dict[str, int] = dict.fromkeys(EVENT_TYPES, SCHEMA_VERSION)
"""Name in the log -> schema version."""

Upcaster = Callable[[list[object]], list[object]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(name in the log, version) -> function from a body of this version to the next version."""


def upcast(
    name: str,
    version: int,
    body: list[object],
    *,
    current: Mapping[str, int] = EVENT_VERSIONS,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> list[object]:
    """The body in the current version. Raises KeyError if an upcaster is missing."""
    while version < current[name]:
        body = upcasters[name, version](body)
        version += 1
    return body
