"""History: the holders of an address, the addresses of a Pod, the changes of a pool.

A history is read from the log, never from the state keys. Segments without the subject's name are
not decoded. For subjects of a kind outside ``INDEXED_KINDS`` the complete log is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

from core.archive.replay import LogView
from core.audit.event_summary import binding_in_words
from core.audit.guid_history import GuidHistory
from core.audit.history_entries import (
    INDEXED_KINDS,
    EntryList,
    History,
    HistoryEntry,
    HistorySubject,
    Stamp,
    stamp_of,
)
from core.audit.object_history import OBJECT_KINDS, ObjectHistory
from core.domain.addresses.ip_address import parse_address, parse_cidr
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    BindingChanged,
    EndpointChanged,
    QuarantineLifted,
    Recorded,
)
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Quarantine
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.eventstore.log_reader import Segment


async def read_history(view: LogView, subject: HistorySubject) -> History:
    """Read the history of the subject. Raises LogCorrupt, LogGap, Compacted."""
    if subject.kind == "uid":
        return await _history_of_uid(view, subject)
    collector = _collector(subject)
    async for recorded in events_about(view, subject):
        collector.take(recorded)
    return collector.history()


def _collector(subject: HistorySubject) -> ObjectHistory | GuidHistory | _AddressHistory:
    if subject.kind in OBJECT_KINDS:
        return ObjectHistory(subject)
    return GuidHistory(subject) if subject.kind == "guid" else _AddressHistory(subject)


async def _history_of_uid(view: LogView, subject: HistorySubject) -> History:
    """Selects from the histories of Pods: the release of a StatefulSet replica has no UID."""
    keys: dict[EndpointKey, None] = {}
    async for recorded in events_about(view, subject):
        match recorded.event:
            case AddressesClaimed(endpoint) | EndpointChanged(endpoint):
                if endpoint.uid == subject.name:
                    keys[endpoint.key] = None
            case AllocationRefused(namespace, name, uid) | BindingChanged(
                namespace, name, uid=uid
            ) if uid == subject.name:
                keys[namespace, name] = None
            case _:
                pass
    entries: list[HistoryEntry] = []
    dropped = 0
    for key in keys:
        of_pod = await read_history(view, HistorySubject("pod", "/".join(key)))
        entries += [entry for entry in of_pod.entries if entry.uid == subject.name]
        dropped += of_pod.dropped
    return History(subject, tuple(sorted(entries, key=lambda entry: entry.began)), dropped)


async def events_about(view: LogView, subject: HistorySubject) -> AsyncIterator[Recorded]:
    """The events that may be about the subject, in log order."""
    sealed = (
        view.sealed.segments_with_any([subject.token])
        if subject.kind in INDEXED_KINDS
        else (segments for _, segments in view.sealed.segments(0, view.revision))
    )
    for segments in sealed:
        for recorded in _matching(view, segments, subject):
            yield recorded
    async for segments in view.live.segments(view.sealed.cursor.position, view.revision):
        for recorded in _matching(view, segments, subject):
            yield recorded


def _matching(
    view: LogView, segments: list[Segment], subject: HistorySubject
) -> Iterator[Recorded]:
    for segment in segments:
        if subject.may_be_in(segment.data):
            yield from view.events_of(segment)


ANY_CLAIM: Final = 0
"""In the history of a node: the ``claim_revision`` of a holding that moved to the node.

Any release of the address ends such a holding.
"""


class _OpenHolding(NamedTuple):
    """A holding that has not ended. A release with another ``claim_revision`` does not end it."""

    entry: HistoryEntry
    claim_revision: int


class _AddressHistory(EntryList):
    def __init__(self, subject: HistorySubject) -> None:
        super().__init__(subject)
        self._open: dict[str, _OpenHolding] = {}
        self._quarantined: HistoryEntry | None = None
        self._cidr = parse_cidr(subject.name) if subject.kind == "cidr" else None

    def take(self, recorded: Recorded) -> None:
        match recorded.event:
            case AddressesClaimed(endpoint, new_nics):
                self._move(endpoint, recorded)
                for index in new_nics:
                    for address, pool in endpoint.nics[index].addresses():
                        if self._concerns(address, pool, endpoint):
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
            case AllocationRefused() as event if self._concerns_refusal(event):
                self.add(_refused_entry(event, stamp_of(recorded)))
            case BindingChanged() as event if self._concerns_binding(event):
                self.add(_binding_entry(event, stamp_of(recorded)))
            case _:
                pass

    def open_entries(self) -> list[HistoryEntry]:
        entries = [holding.entry for holding in self._open.values()]
        return entries if self._quarantined is None else [*entries, self._quarantined]

    def _concerns(self, address: str, pool: str, endpoint: Endpoint) -> bool:
        match self.subject.kind:
            case "address":
                return address == self.subject.name
            case "use":  # the holdings in a pool
                return pool == self.subject.name
            case "node":
                return endpoint.node == self.subject.name
            case "cidr":
                return self._is_inside(address)
            case _:
                return "/".join(endpoint.key) == self.subject.name

    def _concerns_refusal(self, event: AllocationRefused) -> bool:
        match self.subject.kind:
            case "pod":
                return f"{event.namespace}/{event.name}" == self.subject.name
            case "node":
                return event.node == self.subject.name
            case _:
                return False

    def _concerns_binding(self, event: BindingChanged) -> bool:
        match self.subject.kind:
            case "pod":
                return f"{event.namespace}/{event.name}" == self.subject.name
            case "address":
                return self.subject.name in event.addresses
            case "node":
                return event.node == self.subject.name
            case _:
                return False

    def _is_inside(self, address: str) -> bool:
        assert self._cidr is not None
        parsed = parse_address(address)
        cidr = self._cidr
        return parsed.family == cidr.family and cidr.first <= parsed.value <= cidr.last

    def _begin(self, address: str, pool: str, endpoint: Endpoint, recorded: Recorded) -> None:
        holding = self._open.get(address)
        began = stamp_of(recorded)
        if holding is not None:
            entry = holding.entry
            holder = (entry.holder, entry.namespace, entry.pod)
            if holder == (endpoint.holder, *endpoint.key):
                # The same holder has claimed the address again, for example by a repair.
                self._open[address] = holding._replace(claim_revision=recorded.position)
                return
            self._end(address, began, "taken")
        entry = _held_entry(address, pool, endpoint, began)
        self._open[address] = _OpenHolding(entry, recorded.position)

    def _end_released(self, event: AddressesReleased, ended: Stamp) -> None:
        for release in event.releases:
            holding = self._open.get(release.address)
            if holding is not None and holding.claim_revision in (
                release.claim_revision,
                ANY_CLAIM,
            ):
                self._end(release.address, ended, event.reason, event.evidence)

    def _move(self, endpoint: Endpoint, recorded: Recorded) -> None:
        stamp = stamp_of(recorded)
        for address, pool in endpoint.addresses():
            holding = self._open.get(address)
            if holding is None and self.subject == ("node", endpoint.node):
                entry = _held_entry(address, pool, endpoint, stamp)
                self._open[address] = _OpenHolding(entry, ANY_CLAIM)
            if holding is None or (holding.entry.namespace, holding.entry.pod) != endpoint.key:
                continue
            if (holding.entry.uid, holding.entry.node) != (endpoint.uid, endpoint.node):
                self._end(address, stamp, "moved")
                if self._concerns(address, pool, endpoint):
                    entry = _held_entry(address, holding.entry.pool, endpoint, stamp)
                    self._open[address] = holding._replace(entry=entry)

    def _end(self, address: str, ended: Stamp, reason: str, evidence: str = "") -> None:
        entry = self._open.pop(address).entry
        self.add(entry._replace(ended=ended, reason=reason, evidence=evidence))

    def _quarantine(self, quarantine: Quarantine, recorded: Recorded) -> None:
        if self.subject == ("address", quarantine.address):
            self._quarantined = HistoryEntry(
                "quarantined",
                quarantine.address,
                stamp_of(recorded),
                reason=quarantine.reason,
                evidence=evidence_text(quarantine),
            )

    def _lift(self, address: str, recorded: Recorded) -> None:
        if self._quarantined is not None and self._quarantined.subject == address:
            self.add(self._quarantined._replace(ended=stamp_of(recorded)))
            self._quarantined = None


def _held_entry(address: str, pool: str, endpoint: Endpoint, began: Stamp) -> HistoryEntry:
    return HistoryEntry(
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


def _binding_entry(event: BindingChanged, at: Stamp) -> HistoryEntry:
    return HistoryEntry(
        "binding",
        ", ".join(event.addresses),
        at,
        namespace=event.namespace,
        pod=event.pod,
        uid=event.uid,
        node=event.node,
        reason=event.state,
        evidence=event.why,
        text=binding_in_words(event),
    )


def _refused_entry(event: AllocationRefused, at: Stamp) -> HistoryEntry:
    return HistoryEntry(
        "refused",
        "",
        at,
        holder=event.holder,
        namespace=event.namespace,
        pod=event.name,
        uid=event.uid,
        node=event.node,
        reason=event.reason,
        refusal=event,
    )
