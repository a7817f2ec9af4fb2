"""History: who held an address, what a Pod held, how a pool or subnet came to be.

The archive's index names the blocks, a search for the subject's text in the undecoded segments
leaves a handful, and only those are decoded and followed. So the answer takes milliseconds however
long the log is. Archive and live log are read as one, the state keys not at all. Only reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from core.archive.replay import LogView
from core.audit.facts import Fact, FactKind, Stamp, Subject, stamp_of
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    EndpointChanged,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    Recorded,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Pool, Quarantine, Subnet
from core.domain.quarantine import seen_in_words
from core.store.log import Segment

FACTS_MAX = 100_000
"""Facts of one answer; of a longer history the newest are given, and how many are not is told."""


class History(NamedTuple):
    """Facts in the order in which they began, oldest first; ``dropped`` older ones are left out."""

    subject: Subject
    facts: tuple[Fact, ...]
    dropped: int = 0


async def history(view: LogView, subject: Subject) -> History:
    """What the log tells about the subject. Raises LogCorrupt, LogGap, Compacted."""
    if subject.kind == "uid":
        return await _history_of_uid(view, subject)
    follower = _Life(subject) if subject.kind in {"pool", "subnet"} else _Holdings(subject)
    async for recorded in _events_about(view, subject):
        follower.take(recorded)
    return follower.answer()


async def _history_of_uid(view: LogView, subject: Subject) -> History:
    """Releases of a replica name no UID, so its endpoint is followed and the UID's part taken."""
    keys: dict[EndpointKey, None] = {}
    async for recorded in _events_about(view, subject):
        match recorded.event:
            case AddressesClaimed(endpoint) | EndpointChanged(endpoint):
                if endpoint.uid == subject.name:
                    keys[endpoint.key] = None
            case _:
                pass
    facts: list[Fact] = []
    dropped = 0
    for key in keys:
        found = await history(view, Subject("pod", "/".join(key)))
        facts += [fact for fact in found.facts if fact.uid == subject.name]
        dropped += found.dropped
    return History(subject, tuple(sorted(facts, key=lambda fact: fact.began)), dropped)


async def _events_about(view: LogView, subject: Subject) -> AsyncIterator[Recorded]:
    """The events that may speak of the subject, in log order."""
    for segments in view.sealed.speaking_of([subject.token]):
        for recorded in _matching(segments, subject):
            yield recorded
    if view.live is not None:
        async for segments in view.live.segments(view.sealed.cursor.position, view.revision):
            for recorded in _matching(segments, subject):
                yield recorded


def _matching(segments: list[Segment], subject: Subject) -> Iterator[Recorded]:
    for segment in segments:
        if subject.may_be_in(segment.data):
            yield from segment.events()


class _Facts:
    """Facts under way and facts that are over."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._over: deque[Fact] = deque(maxlen=FACTS_MAX)
        self._count = 0

    def add(self, fact: Fact) -> None:
        """A fact that will not change any more."""
        self._over.append(fact)
        self._count += 1

    def under_way(self) -> list[Fact]:
        """Facts that have no end yet."""
        return []

    def answer(self) -> History:
        """Everything, in order of beginnings."""
        facts = sorted([*self._over, *self.under_way()], key=lambda fact: fact.began)
        return History(self.subject, tuple(facts), self._count - len(self._over))


class _Open(NamedTuple):
    """A holding under way, and the revision that its release has to name (I3)."""

    fact: Fact
    fence: int


class _Holdings(_Facts):
    """Follows claims and releases, and for an address its quarantines."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._open: dict[str, _Open] = {}
        self._quarantined: Fact | None = None

    def take(self, recorded: Recorded) -> None:
        match recorded.event:
            case AddressesClaimed(endpoint, new_nics):
                self._move(endpoint, recorded)
                for index in new_nics:
                    for address, pool in endpoint.nics[index].addresses():
                        if self._wants(address, pool, endpoint.key):
                            self._begin(address, pool, endpoint, recorded)
            case AddressesReleased() as event:
                self._end_released(event, stamp_of(recorded))
            case EndpointChanged(endpoint):
                self._move(endpoint, recorded)
            case AddressQuarantined(quarantine):
                self._lift(quarantine.address, recorded)
                self._quarantine(quarantine, recorded)
            case QuarantineLifted(address):
                self._lift(address, recorded)
            case _:
                pass

    def under_way(self) -> list[Fact]:
        facts = [held.fact for held in self._open.values()]
        return facts if self._quarantined is None else [*facts, self._quarantined]

    def _wants(self, address: str, pool: str, key: EndpointKey) -> bool:
        match self.subject.kind:
            case "address":
                return address == self.subject.name
            case "use":
                return pool == self.subject.name
            case _:
                return "/".join(key) == self.subject.name

    def _begin(self, address: str, pool: str, endpoint: Endpoint, recorded: Recorded) -> None:
        held = self._open.get(address)
        began = stamp_of(recorded)
        if held is not None:
            same = (held.fact.holder, held.fact.namespace, held.fact.pod)
            if same == (endpoint.holder, *endpoint.key):
                # The same holding, restated: by a repair, or for a second NIC.
                self._open[address] = held._replace(fence=recorded.position)
                return
            self._end(address, began, "taken")
        self._open[address] = _Open(_held(address, pool, endpoint, began), recorded.position)

    def _end_released(self, event: AddressesReleased, ended: Stamp) -> None:
        for address, _, _, revision in event.releases:
            held = self._open.get(address)
            if held is not None and held.fence == revision:
                self._end(address, ended, event.reason, event.evidence)

    def _move(self, endpoint: Endpoint, recorded: Recorded) -> None:
        """The holder may go on with another Pod or on another node (a replica, a VM)."""
        for address, _ in endpoint.addresses():
            held = self._open.get(address)
            if held is None or (held.fact.namespace, held.fact.pod) != endpoint.key:
                continue
            if (held.fact.uid, held.fact.node) != (endpoint.uid, endpoint.node):
                stamp = stamp_of(recorded)
                self._end(address, stamp, "moved")
                fact = _held(address, held.fact.pool, endpoint, stamp)
                self._open[address] = _Open(fact, held.fence)

    def _end(self, address: str, ended: Stamp, reason: str, evidence: str = "") -> None:
        fact = self._open.pop(address).fact
        self.add(fact._replace(ended=ended, reason=reason, evidence=evidence))

    def _quarantine(self, quarantine: Quarantine, recorded: Recorded) -> None:
        if self.subject == ("address", quarantine.address):
            self._quarantined = Fact(
                "quarantined",
                quarantine.address,
                stamp_of(recorded),
                reason=quarantine.reason,
                evidence=seen_in_words(quarantine),
            )

    def _lift(self, address: str, recorded: Recorded) -> None:
        if self._quarantined is not None and self._quarantined.subject == address:
            self.add(self._quarantined._replace(ended=stamp_of(recorded)))
            self._quarantined = None


class _Life(_Facts):
    """Follows the life of one pool or subnet."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._value: Pool | Subnet | None = None

    def take(self, recorded: Recorded) -> None:
        name, kind = self.subject.name, self.subject.kind
        match kind, recorded.event:
            case ("pool", PoolDefined(value)) | ("subnet", SubnetDefined(value)):
                if value.name == name:
                    self._defined(value, recorded)
            case ("pool", PoolRetired(retired)) | ("subnet", SubnetRetired(retired)):
                if retired == name:
                    self._value = self._value and self._value._replace(retiring=True)
                    self._add("retired", recorded)
            case ("pool", PoolDeleted(deleted)) | ("subnet", SubnetDeleted(deleted)):
                if deleted == name:
                    self._value = None
                    self._add("deleted", recorded)
            case _:
                pass

    def _defined(self, value: Pool | Subnet, recorded: Recorded) -> None:
        before, self._value = self._value, value
        if before is None:
            self._add("defined", recorded, _described(value))
        elif before.retiring and not value.retiring:
            self._add("reinstated", recorded)
        else:
            self._add("changed", recorded, _changes(before, value))

    def _add(self, kind: FactKind, recorded: Recorded, text: str = "") -> None:
        name = self.subject.name
        pool = name if self.subject.kind == "pool" else ""
        self.add(Fact(kind, name, stamp_of(recorded), pool=pool, text=text))


def _held(address: str, pool: str, endpoint: Endpoint, began: Stamp) -> Fact:
    return Fact(
        "held",
        address,
        began,
        pool=pool,
        holder=endpoint.holder,
        namespace=endpoint.namespace,
        pod=endpoint.name,
        uid=endpoint.uid,
        node=endpoint.node,
    )


def _described(pool: Pool | Subnet) -> str:
    without = f" without {', '.join(pool.exclude_ips)}" if pool.exclude_ips else ""
    return f"{pool.subnet}: {', '.join(pool.ips) or 'no addresses'}{without}"


def _changes(before: Pool | Subnet, after: Pool | Subnet) -> str:
    """The fields that differ, old and new."""
    pairs = zip(after._fields, before, after, strict=True)
    return "; ".join(
        f"{field}: {_text(old)} -> {_text(new)}" for field, old, new in pairs if old != new
    )


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
