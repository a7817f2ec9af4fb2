"""An index in memory of the states at all positions of a log: queries take milliseconds.

The index has the addresses that Pods held, the versions of configuration objects, and the time at
each position. ``core.audit.history`` reads other details from the log.
"""

from __future__ import annotations

import asyncio
import re
from array import array
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.replay import LogView, advance_clock
from core.archive.snapshot import ArchiveSnapshot
from core.audit.compact_texts import NumberedTexts
from core.audit.holding_table import Holder, HoldingTable, rows_of
from core.audit.log_clock import LogClock
from core.audit.object_versions import VersionTable
from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.coordinators import COORDINATOR_KIND
from core.domain.events import (
    TYPE_NAMES,
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    EndpointChanged,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.evolution import Ledger, evolve_pool, evolve_subnet
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.eventstore.log_reader import Segment

EVENTS_PER_STEP: Final = 2_000
"""``LogIndex.read`` lets other tasks run after this number of events."""

RECENT_EVENTS: Final = 1_000

_TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{16}([0-9a-f]{16})-")
_TYPES: Final = tuple(TYPE_NAMES.values())
_TYPE_NUMBERS: Final = {kind: number for number, kind in enumerate(TYPE_NAMES)}
_SEPARATORS: Final = re.compile(r"[^0-9a-fA-F]")


class RefusedPod(NamedTuple):
    """The newest refused ADD of a Pod."""

    reason: str
    node: str


class LogIndex:
    """The states from ``first_position`` to ``position``."""

    def __init__(self, base: ArchiveSnapshot) -> None:
        self.first_position = self.position = base.ledger.position
        self.clock = LogClock(base.ledger.position, base.clock_ms)
        self.pools: VersionTable[str, Pool] = VersionTable()
        self.subnets: VersionTable[str, Subnet] = VersionTable()
        self.reservations: VersionTable[str, Reservation] = VersionTable()
        self.quarantine: VersionTable[str, Quarantine] = VersionTable()
        self.coordinators: VersionTable[str, RecordDefined] = VersionTable()
        self.refusals: VersionTable[str, RefusedPod] = VersionTable()
        """Pod (``NAMESPACE/NAME``) -> its newest refused ADD."""
        self.holdings: dict[str, HoldingTable] = {}
        self.writers: defaultdict[str, array[int]] = defaultdict(lambda: array("Q"))
        """Writer -> the positions of its segments."""
        self.recent: deque[Recorded] = deque(maxlen=RECENT_EVENTS)
        self._names = NumberedTexts()
        # The traces of all events but claims, whose traces are in ``holdings``.
        self._traces, self._trace_positions, self._trace_types = array("Q"), array("Q"), array("B")
        self._seqs = dict(base.seqs)
        self._skipped: dict[str, list[tuple[int, int]]] = {}
        """Writer -> pairs (position, number of unreadable segments skipped so far)."""
        self._clock_ms = base.clock_ms
        self._index_ledger(base.ledger)

    async def read(self, view: LogView, upto: int | None = None) -> None:
        """Index the new events up to position ``upto``; None means the end of the view.

        Raises LogCorrupt, LogGap, Compacted, StoreUnavailable. After an error, the next call
        continues after the last indexed segment.
        """
        since_pause = 0
        async for batch in view.batches(self.position, upto):
            for segment in batch.segments:
                events = view.events_of(segment)
                for recorded in events:
                    self._clock_ms = advance_clock(self._clock_ms, recorded, batch.read_at_ms)
                    with suppress(AddressSyntaxError):  # ``orbctl verify`` reports such an address
                        self._apply(recorded)
                self.recent.extend(events)
                self.clock.append(segment.position, self._clock_ms, len(events))
                self._count_skipped(segment)
                self.position = segment.position
                since_pause += len(events)
                if since_pause >= EVENTS_PER_STEP:
                    since_pause = 0
                    await asyncio.sleep(0)

    def _count_skipped(self, segment: Segment) -> None:
        """Note the segment's position; count its writer's segments that were skipped before it."""
        writer, positions = segment.writer, self.writers[segment.writer]
        skipped_count = segment.seq - 1 - len(positions) - self._seqs.get(writer, 0)
        counts = self._skipped.get(writer)
        known_count = counts[-1][1] if counts else 0
        if skipped_count > known_count:
            self._skipped.setdefault(writer, []).append((segment.position, skipped_count))
        positions.append(segment.position)

    def table(self, pool: str) -> HoldingTable:
        """The holdings of a pool; for an unknown pool an empty table that is not kept."""
        return self.holdings.get(pool) or HoldingTable(self._names)

    def written_by(self, writer: str, position: int) -> tuple[int, int]:
        """The number of a writer's segments up to a position, and the last segment's position."""
        positions = self.writers.get(writer, array("Q"))
        count = bisect_right(positions, position)
        return count, positions[count - 1] if count else 0

    def seqs_at(self, position: int) -> dict[str, int]:
        """Writer -> sequence number of its last segment up to a position."""
        segment_counts = {writer: self.written_by(writer, position)[0] for writer in self.writers}
        return self._seqs | {
            writer: self._seqs.get(writer, 0) + count + self._skipped_by(writer, position)
            for writer, count in segment_counts.items()
        }

    def _skipped_by(self, writer: str, position: int) -> int:
        counts = [number for at, number in self._skipped.get(writer, ()) if at <= position]
        return counts[-1] if counts else 0

    def events_with_trace(self, trace: int) -> Iterator[tuple[int, str]]:
        """Position and type of each event of a trace, except claims.

        ``trace``: the low 64 bits of the trace id.
        """
        for row in rows_of(self._traces, trace):
            yield self._trace_positions[row], _TYPES[self._trace_types[row]]

    def _index_ledger(self, ledger: Ledger) -> None:
        at = ledger.position
        self._define_all(ledger, at)
        claims = sorted(ledger.claims.items(), key=lambda pair: pair[1].revision)
        for address, (claim, revision) in claims:
            endpoint = ledger.endpoints.get((claim.namespace, claim.pod))
            nic = _nic_with(endpoint, address)
            pod = f"{claim.namespace}/{claim.pod}"
            holder = _holder(endpoint, nic, pod, trace=0, revision=revision)
            self._kept_table(claim.pool).begin(parse_address(address).value, at, holder)

    def _define_all(self, ledger: Ledger, at: int) -> None:
        for pool in ledger.pools.values():
            self.pools.define(pool.name, at, pool)
        for subnet in ledger.subnets.values():
            self.subnets.define(subnet.name, at, subnet)
        for reservation in ledger.reservations.values():
            self.reservations.define(reservation.name, at, reservation)
        for quarantine in ledger.quarantine.values():
            self.quarantine.define(quarantine.address, at, quarantine)
        for record in ledger.records.values():
            if record.kind == COORDINATOR_KIND:
                self.coordinators.define(record.name, at, record)

    def _kept_table(self, pool: str) -> HoldingTable:
        table = self.holdings.get(pool)
        if table is None:
            table = self.holdings[pool] = HoldingTable(self._names)
        return table

    def _apply(self, recorded: Recorded) -> None:
        event, position = recorded.event, recorded.position
        trace = _TRACE.match(recorded.cause.traceparent)
        trace_id = int(trace[1], 16) if trace else 0
        if trace_id and not isinstance(event, AddressesClaimed):
            self._traces.append(trace_id)
            self._trace_positions.append(position)
            self._trace_types.append(_TYPE_NUMBERS[type(event)])
        match event:
            case AddressesClaimed(endpoint, new_nics):
                self._claim(endpoint, new_nics, position, trace_id)
                if len(new_nics) < len(endpoint.nics):
                    self._move(endpoint, position)
            case EndpointChanged(endpoint):
                self._move(endpoint, position)
            case AddressesReleased(releases=releases):
                for release in releases:
                    table = self._kept_table(release.pool)
                    value = parse_address(release.address).value
                    if table.revision_now(value) == release.claim_revision:
                        table.end(value, position)
            case AllocationRefused(namespace, name):
                refusal = RefusedPod(event.reason, event.node)
                self.refusals.define(f"{namespace}/{name}", position, refusal)
            case _:
                self._configure(event, position)

    def _claim(self, endpoint: Endpoint, nics: Iterable[int], position: int, trace: int) -> None:
        pod = f"{endpoint.namespace}/{endpoint.name}"
        for index in nics:
            nic = endpoint.nics[index]
            for address, pool in nic.addresses():
                holder = _holder(endpoint, nic, pod, trace, position)
                self._kept_table(pool).begin(parse_address(address).value, position, holder)

    def _move(self, endpoint: Endpoint, position: int) -> None:
        """Begin a new holding for each address whose data, e.g. the node, has changed."""
        pod = f"{endpoint.namespace}/{endpoint.name}"
        for nic in endpoint.nics:
            for address, pool in nic.addresses():
                table, value = self._kept_table(pool), parse_address(address).value
                before = table.holder_now(value)
                if before is None or before.pod != pod:
                    continue
                after = _holder(endpoint, nic, pod, before.trace, before.revision)
                if after != before:
                    table.begin(value, position, after)

    def _configure(self, event: Event, at: int) -> None:
        match event:
            case PoolDefined() | PoolRetired() | PoolDeleted():
                name = event.pool.name if isinstance(event, PoolDefined) else event.name
                self.pools.define(name, at, evolve_pool(self.pools.current(name), event))
            case SubnetDefined() | SubnetRetired() | SubnetDeleted():
                name = event.subnet.name if isinstance(event, SubnetDefined) else event.name
                self.subnets.define(name, at, evolve_subnet(self.subnets.current(name), event))
            case ReservationDefined(reservation):
                self.reservations.define(reservation.name, at, reservation)
            case ReservationDeleted(name):
                self.reservations.define(name, at, None)
            case AddressQuarantined(quarantine):
                self.quarantine.define(quarantine.address, at, quarantine)
            case QuarantineLifted(address):
                self.quarantine.define(address, at, None)
            case RecordDefined(kind=kind, name=name) if kind == COORDINATOR_KIND:
                self.coordinators.define(name, at, event)
            case RecordDeleted(kind=kind, name=name) if kind == COORDINATOR_KIND:
                self.coordinators.define(name, at, None)
            case _:
                pass


def mac_number(text: str) -> int:
    """A MAC address as a number; 0 if the text is not a MAC address."""
    digits = _SEPARATORS.sub("", text)
    return int(digits, 16) if len(digits) == 12 else 0


def _holder(
    endpoint: Endpoint | None, nic: Nic | None, pod: str, trace: int, revision: int
) -> Holder:
    if endpoint is None:
        return Holder(
            pod, node="", interface="", application="", mac=0, trace=trace, revision=revision
        )
    interface, mac = (nic.interface, mac_number(nic.mac)) if nic is not None else ("", 0)
    application = f"{endpoint.owner_kind}/{endpoint.namespace}/{endpoint.owner_name}"
    return Holder(
        pod,
        endpoint.node,
        interface,
        application if endpoint.owner_name and endpoint.owner_kind != "Pod" else "",
        mac,
        trace,
        revision,
    )


def _nic_with(endpoint: Endpoint | None, address: str) -> Nic | None:
    nics = endpoint.nics if endpoint is not None else ()
    return next((nic for nic in nics if address in dict(nic.addresses())), None)
