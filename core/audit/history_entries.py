"""The subject and the entries of a history.

A holding is the period in which one Pod has an address.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, Literal, NamedTuple

from core.domain.addresses.ip_address import AddressSyntaxError, parse_cidr, require_address
from core.domain.coordinators import COORDINATOR_KIND
from core.domain.events import (
    TYPE_NAMES,
    AllocationRefused,
    ApplicationScaled,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    RecordDefined,
    RecordDeleted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.sriov.guid_file import parse_guid
from core.errors import BadInput

SubjectKind = Literal[
    "address",
    "pod",
    "uid",
    "pool",
    "use",
    "subnet",
    "reservation",
    "record",
    "application",
    "node",
    "cidr",
    "guid",
]
EntryKind = Literal[
    "held",
    "quarantined",
    "refused",
    "scaled",
    "binding",
    "defined",
    "changed",
    "retired",
    "reinstated",
    "deleted",
]

_EVENTS_OF_KIND: Final[dict[str, tuple[type[Event], ...]]] = {
    "pool": (PoolDefined, PoolRetired, PoolDeleted),
    "subnet": (SubnetDefined, SubnetRetired, SubnetDeleted),
    "reservation": (ReservationDefined, ReservationDeleted),
    "record": (RecordDefined, RecordDeleted),
    "application": (
        RecordDefined,
        RecordDeleted,
        PoolDefined,
        PoolRetired,
        PoolDeleted,
        ApplicationScaled,
    ),
}
"""Kind of subject -> the event types in its history. For absent kinds: any type."""

ENTRIES_MAX = 100_000
"""The most completed entries of one history. Older entries are omitted and counted."""

_NOT_NAMED_IN_EVENTS: Final = frozenset(("cidr", "node"))
"""A release does not have the name of the node, and no event has a CIDR."""

INDEXED_KINDS: Final = frozenset(("address", "pod", "uid", "pool", "use", "subnet"))
"""The kinds of subjects that the archive's index has."""

_IPV4_OR_CIDR: Final = re.compile(r"[0-9.]*\.[0-9.]*(/[0-9]+)?\Z")
SUBJECT_FORMS: Final = (
    "give an address, a CIDR, NAMESPACE/POD, a UID, pool/NAME, use/POOL (the claims of a pool),"
    " subnet/NAME, reservation/NAME, coordinator/NAME, node/NAME, guid/GUID,"
    " application/NAMESPACE/NAME, or record/KIND/[NAMESPACE/]NAME"
)
_SLASHES: Final[dict[str, tuple[int, ...]]] = {
    "pod": (1,),
    "application": (1,),
    "record": (1, 2),
}
"""Kind -> the allowed numbers of slashes in a name; 0 for other kinds."""
_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")


class HistorySubject(NamedTuple):
    """The subject of a history. The kind decides which entries the history has.

    ``address``: holdings, quarantines, bindings.
    ``pod`` (``NAMESPACE/NAME``), ``uid``, ``node``: the Pods' holdings, refused ADDs and bindings.
    ``use`` (a pool), ``cidr``: holdings.
    ``pool``, ``subnet``, ``reservation``: changes of the object.
    ``record``: changes of ``KIND/NAME`` or ``KIND/NAMESPACE/NAME``.
    ``application`` (``NAMESPACE/NAME``): changes of its record, Pod count and automatic pools.
    ``guid``: the virtual functions that had the GUID.
    """

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def token(self) -> str:
        """The token of the subject in the archive's index."""
        return f"{self.kind} {self.name}"

    def may_be_in(self, data: bytes) -> bool:
        """Whether an encoded segment may have an event of the subject."""
        if self.kind in _NOT_NAMED_IN_EVENTS:
            return True
        # msgpack stores texts unchanged.
        if self.name.rpartition("/")[2].encode() not in data:
            return False
        events = _EVENTS_OF_KIND.get(self.kind)
        return events is None or any(TYPE_NAMES[event].encode() in data for event in events)


class Stamp(NamedTuple):
    """Position, time and cause of an event. ``at_ms``: Unix milliseconds."""

    position: int
    index_in_segment: int
    at_ms: int
    event_id: str
    writer: str
    actor: str
    correlation_id: str
    trace_id: str


class HistoryEntry(NamedTuple):
    """A state (``held``, ``quarantined``) from ``began`` to ``ended``, or a change at ``began``.

    ``subject``: the address or the object; "" for a refused ADD.
    ``ended``: None for a change, and for a state that has not ended.
    ``reason``, ``evidence``: copied from the event; for a binding, ``reason`` is the state. For a
    holding, two reasons are not from an event:

    - ``moved``: the holder kept the address with another Pod or node.
    - ``taken``: another holder claimed the address before the release. This violates invariant I1
      (docs/contributing/architecture.md).
    """

    kind: EntryKind
    subject: str
    began: Stamp
    ended: Stamp | None = None
    pool: str = ""
    holder: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    node: str = ""
    reason: str = ""
    evidence: str = ""
    text: str = ""
    refusal: AllocationRefused | None = None


class History(NamedTuple):
    """Entries in the order in which they began. ``dropped``: the count of omitted entries."""

    subject: HistorySubject
    entries: tuple[HistoryEntry, ...]
    dropped: int = 0


class EntryList:
    """Base class of collectors. A subclass whose entries can be open overrides ``open_entries``."""

    def __init__(self, subject: HistorySubject) -> None:
        self.subject = subject
        self._completed: deque[HistoryEntry] = deque(maxlen=ENTRIES_MAX)
        self._count = 0

    def add(self, entry: HistoryEntry) -> None:
        """Add a completed entry."""
        self._completed.append(entry)
        self._count += 1

    def open_entries(self) -> list[HistoryEntry]:
        """The entries of states that have not ended."""
        return []

    def history(self) -> History:
        """The completed and the open entries, in the order in which they began."""
        entries = sorted([*self._completed, *self.open_entries()], key=lambda entry: entry.began)
        return History(self.subject, tuple(entries), self._count - len(self._completed))


def parse_subject(text: str) -> HistorySubject:
    """Parse a form of ``SUBJECT_FORMS``, ``pod/NAMESPACE/NAME`` or ``uid/UID``. Raises BadInput.

    Any other single word is a pool.
    """
    kind, _, name = text.partition("/")
    parts = name.split("/")
    # Without a kind, only addresses and CIDRs have a colon or consist of digits and dots.
    if kind not in ("address", "guid") and (":" in text or _IPV4_OR_CIDR.match(text)):
        return _address_or_cidr(text)
    match kind, len(parts):
        case "guid", 1:
            return HistorySubject("guid", _guid(name))
        case (("pod" | "application"), 2):
            return _named(kind, name, text)
        case (("uid" | "pool" | "use" | "subnet" | "reservation" | "node"), 1) if name:
            return _named(kind, name, text)
        case "coordinator", 1 if name:
            return _named("record", f"{COORDINATOR_KIND}/{name}", text)
        case "record", 2 | 3:
            return _named("record", name, text)
        case "address", 1 if name:
            return HistorySubject("address", str(require_address(name)))
        case _, 1 if name:
            return _named("pod", text, text)
    return _named("uid" if _UID.match(text) else "pool", text, text)


def _address_or_cidr(text: str) -> HistorySubject:
    if "/" not in text:
        return HistorySubject("address", str(require_address(text)))
    try:
        return HistorySubject("cidr", str(parse_cidr(text)))
    except AddressSyntaxError as error:
        raise BadInput(str(error), subject="cidr") from None


def stamp_of(recorded: Recorded) -> Stamp:
    """The stamp of an event."""
    cause = recorded.cause
    trace = _TRACE_ID.match(cause.traceparent)
    return Stamp(
        recorded.position,
        recorded.index_in_segment,
        recorded.recorded_at_ms,
        recorded.event_id,
        recorded.writer,
        cause.actor,
        cause.correlation_id,
        trace[1] if trace else "",
    )


def _guid(text: str) -> str:
    try:
        return parse_guid(text)
    except ValueError as error:
        raise BadInput(str(error), subject="guid") from None


def _named(kind: SubjectKind, name: str, text: str) -> HistorySubject:
    slashes = _SLASHES.get(kind, (0,))
    if not all(name.split("/")) or name.count("/") not in slashes:
        raise BadInput(
            f"{text!r} is not the name of an address, a Pod, or another object with a history",
            subject="subject",
            remedy=SUBJECT_FORMS,
        )
    return HistorySubject(kind, name)
