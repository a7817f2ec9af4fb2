"""What history answers with: subjects, and facts with a beginning and an end.

Plain values for tables and JSON. Nothing here reads anything.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from core.domain.addresses import AddressSyntaxError, parse_address
from core.domain.events import (
    TYPE_NAMES,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    Recorded,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.errors import BadInput

SubjectKind = Literal["address", "pod", "uid", "pool", "use", "subnet"]
FactKind = Literal["held", "quarantined", "defined", "changed", "retired", "reinstated", "deleted"]

_LIFE: Final[dict[str, tuple[type[Event], ...]]] = {
    "pool": (PoolDefined, PoolRetired, PoolDeleted),
    "subnet": (SubnetDefined, SubnetRetired, SubnetDeleted),
}
"""Subjects with a life of their own, and the events that tell it."""
_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")


class Subject(NamedTuple):
    """What history is asked about.

    ``address``: who held it, and its quarantines. ``pod``: the addresses of an endpoint, by
    ``namespace/name``; ``uid``: the same for one Pod of that name. ``pool``, ``subnet``: its own
    life; ``use``: every holding in a pool, which may be long.
    """

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def token(self) -> str:
        """How the archive's index calls it."""
        return f"{self.kind} {self.name}"

    def may_be_in(self, data: bytes) -> bool:
        """Whether a segment can speak of it: msgpack holds texts as they are, so a search tells."""
        if self.name.rpartition("/")[2].encode() not in data:
            return False
        life = _LIFE.get(self.kind)
        return life is None or any(TYPE_NAMES[kind].encode() in data for kind in life)


class Stamp(NamedTuple):
    """One event: where it is in the log, when (Unix milliseconds) and who caused it."""

    position: int
    place: int
    at_ms: int
    event_id: str
    writer: str
    actor: str
    correlation_id: str
    trace_id: str


class Fact(NamedTuple):
    """Something that was so from ``began`` to ``ended``; None: it still is, or happened at once.

    ``subject``: the address or the pool. ``reason`` and ``evidence``: why it ended (held) or began
    (quarantined). ``reason`` is an event's reason, or ``moved`` when the same holder went on with
    another Pod or node, or ``taken`` when the log gives the address to somebody else (I1 broken).
    ``text`` says in words what a pool is, or what changed in it.
    """

    kind: FactKind
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


def parse_subject(text: str) -> Subject:
    """Read what a person types.

    An address; ``NS/NAME`` or ``pod/NS/NAME``; a UID or ``uid/UID``; ``pool/NAME``, ``use/NAME``,
    ``subnet/NAME``; any other single word is a pool. Raises BadInput.
    """
    head, _, rest = text.partition("/")
    parts = rest.split("/")
    match head, len(parts):
        case "pod", 2:
            return _named("pod", rest, text)
        case "uid", 1 if rest:
            return _named("uid", rest, text)
        case "pool", 1 if rest:
            return _named("pool", rest, text)
        case "use", 1 if rest:
            return _named("use", rest, text)
        case "subnet", 1 if rest:
            return _named("subnet", rest, text)
        case "address", 1 if rest:
            return Subject("address", _address(rest))
        case _, 1 if rest:
            return _named("pod", text, text)
    try:
        return Subject("address", str(parse_address(text)))
    except AddressSyntaxError:
        kind: SubjectKind = "uid" if _UID.match(text) else "pool"
        return _named(kind, text, text)


def stamp_of(recorded: Recorded) -> Stamp:
    """The event as a stamp."""
    cause = recorded.cause
    trace = _TRACE_ID.match(cause.traceparent)
    return Stamp(
        recorded.position,
        recorded.place,
        recorded.recorded_at_ms,
        recorded.event_id,
        recorded.writer,
        cause.actor,
        cause.correlation_id,
        trace[1] if trace else "",
    )


def _address(text: str) -> str:
    try:
        return str(parse_address(text))
    except AddressSyntaxError as error:
        raise BadInput(str(error), subject="address") from None


def _named(kind: SubjectKind, name: str, text: str) -> Subject:
    if not all(name.split("/")) or (kind != "pod" and "/" in name) or name.count("/") > 1:
        raise BadInput(
            f"{text!r} names nothing that has a history",
            subject="subject",
            remedy="give an address, NAMESPACE/POD, a UID, a pool, or subnet/NAME",
        )
    return Subject(kind, name)
