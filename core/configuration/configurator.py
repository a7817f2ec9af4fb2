"""Applies commands about pools, subnets, reservations, quarantine and records.

A command is an optimistic transaction: it commits only if the objects that it writes have not
changed since they were read. Every change in a topic (pools, subnets, reservations, quarantine,
records) rewrites the topic's guard key for the IP family. A change of pools or subnets also
requires that the guard keys of the topics in ``_GUARDED_TOPICS`` are unchanged. Therefore only one
of two concurrent commands can create overlapping objects. A change in another topic depends on no
topic.

A transaction that removes addresses from a pool fails if a claim of a removed address was written
since the read (invariant I2 of docs/contributing/architecture.md).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final, NamedTuple

from core.configuration.command_scope import ScopeReader
from core.configuration.event_writes import effect_of
from core.domain.addresses.address_set import AddressSet
from core.domain.configuration.admissions import (
    AdmissionConflict,
    DryRun,
    PendingAdmission,
    configurations_with_admissions,
    overlapping_admissions,
)
from core.domain.configuration.commands import Command
from core.domain.configuration.configuration_state import Configuration, FeatureSwitches
from core.domain.configuration.decisions import addresses_to_guard, decide, removed_addresses
from core.domain.events import Cause, Event
from core.domain.model import Claim
from core.domain.subnets.subnet_decisions import must_repeat
from core.errors import LogCorrupt, LostRace, Refusal, Refused
from core.eventstore.codec import STATE_REMEDY, EventDraft
from core.eventstore.group_commit import Lost, Proposal
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import Delete, Guard, KeyValueStore, NothingNewer, Put, Write
from core.eventstore.pool_index import COMPLETE_INDEX
from core.eventstore.retry_policies import retry_lost_races
from core.eventstore.state_reader import read_claims
from core.eventstore.writer import Writer
from core.process import tracing

RANGE_GUARDS_MAX = 64
"""The most address intervals that one transaction guards.

If more were removed, adjacent intervals are joined, and the gaps between them are guarded too.
"""

_GUARDED_TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "pools": ("pools", "subnets", "reservations"),
    "subnets": ("subnets", "pools"),
}
"""Topic of a change -> topics that must not have changed since the read.

Pools depend on reservations, because an automatic pool takes no reserved address.
"""


class Applied(NamedTuple):
    """The events of a command; no events if the command changed nothing."""

    events: tuple[Event, ...]
    revision: int


class Configurator:
    """Applies commands to the configuration in etcd."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        *,
        ipv4_enabled: bool = True,
        ipv6_enabled: bool = True,
        subnets_enabled: bool = True,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        switches = FeatureSwitches(ipv4_enabled, ipv6_enabled, subnets_enabled)
        self._scopes = ScopeReader(store, keys, switches)

    async def apply(
        self, command: Command, cause: Cause, observed: EventDraft | None = None
    ) -> Applied:
        """Decide and commit. Raises Refused, StoreUnavailable, OutcomeUnknown, LostRace.

        ``observed``: the event that caused the command. It is written before the command's events,
        and only together with them. A command that changes many pools takes several transactions.
        After an error, apply the command again: it continues.
        """
        with tracing.span(f"ipam.apply {type(command).__name__}") as span:
            if span is not None and not cause.traceparent:
                cause = cause._replace(traceparent=span.traceparent)
            last: Applied = await retry_lost_races()(self._apply_once, command, cause, observed)
            events = last.events
            while must_repeat(command, last.events):
                last = await retry_lost_races()(self._apply_once, command, cause)
                events += last.events
            return Applied(events, last.revision)

    async def dry_run(self, command: Command) -> tuple[Event, ...]:
        """The events that the command would cause now; writes nothing. Raises Refused."""
        scope = await self._scopes.read(command, may_write=False)
        claimed = await self._claimed(
            removed_addresses(scope.configuration, command), scope.position
        )
        return decide(scope.configuration, command, claimed)

    async def dry_run_with_pending(
        self, command: Command, pending: Iterable[PendingAdmission]
    ) -> DryRun:
        """Decide the command on the log, then again as if the pending admissions were in the log.

        Returns the events, and each admission that forbids the command. Raises Refused if the log
        alone forbids it.
        """
        scope = await self._scopes.read(command, may_write=False)
        configuration = scope.configuration
        claimed = await self._claimed(removed_addresses(configuration, command), scope.position)
        events = decide(configuration, command, claimed)
        overlapping = overlapping_admissions(command, pending) if events else []
        if not _refusals(configuration, command, claimed, overlapping):
            return DryRun(events)
        conflicts = []
        for admission in overlapping:
            refusals = _refusals(configuration, command, claimed, [admission])
            if refusals:
                conflicts.append(AdmissionConflict(admission, refusals))
        return DryRun(events, tuple(conflicts))

    async def _apply_once(
        self, command: Command, cause: Cause, observed: EventDraft | None = None
    ) -> Applied:
        scope = await self._scopes.read(command)
        at, configuration = scope.position, scope.configuration
        claimed = await self._claimed(removed_addresses(configuration, command), at)
        events = decide(configuration, command, claimed)
        if not events:
            return Applied((), at)
        guards: dict[Guard, None] = {}
        writes: dict[bytes, Write] = {}
        for effect in (effect_of(event, configuration, self._keys) for event in events):
            key = _key_of(effect.write)
            _require_decodable(scope.undecodable, key_text(self._keys, key))
            writes[key] = effect.write
            guards[NothingNewer(key, key + b"\0", at)] = None
            writes |= {_key_of(write): write for write in effect.index_writes}
            if effect.topic:
                guard_key = self._keys.guard(effect.topic, effect.family)
                # The value marks whether the topic's index is complete.
                writes[guard_key] = Put(
                    guard_key, COMPLETE_INDEX if guard_key in scope.indexed else b""
                )
            for topic in _GUARDED_TOPICS.get(effect.topic, ()):
                guard_key = self._keys.guard(topic, effect.family)
                guards[NothingNewer(guard_key, guard_key + b"\0", at)] = None
        guards.update(
            dict.fromkeys(self._range_guards(addresses_to_guard(configuration, events), at))
        )
        drafts = []
        if observed is not None:
            drafts.append(observed)
            cause = cause._replace(causation_id=observed.event_id)
        drafts += [EventDraft(self._writer.event_id(), cause, event) for event in events]
        proposal = Proposal(tuple(drafts), tuple(guards), tuple(writes.values()))
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise LostRace(
                "another command changed the configuration first",
                subject=type(command).__name__,
                remedy="apply the command again",
            )
        return Applied(events, outcome.revision)

    async def _claimed(self, removed: AddressSet | None, at: int) -> Mapping[str, Claim]:
        if removed is None:
            return {}
        return await read_claims(self._store, self._keys, removed, revision=at)

    def _range_guards(self, removed: AddressSet | None, at: int) -> list[Guard]:
        """Guards against claims written after revision ``at``."""
        if not removed:
            return []
        key = self._keys.ip
        family = removed.family
        return [
            NothingNewer(key(family, first), key(family, last) + b"\0", at)
            for first, last in removed.covering_intervals(RANGE_GUARDS_MAX)
        ]


def _key_of(write: Write) -> bytes:
    return write.start if isinstance(write, Delete) else write.key


def _require_decodable(undecodable: Container[str], key: str) -> None:
    if key in undecodable:
        message = f"the command was not applied: the stored value of {key} cannot be decoded"
        raise LogCorrupt(message, subject=key, remedy=STATE_REMEDY)


def _refusals(
    configuration: Configuration,
    command: Command,
    claimed: Mapping[str, Claim],
    pending: Iterable[PendingAdmission],
) -> tuple[Refusal, ...]:
    """The refusals if the pending admissions were in the log."""
    for changed in configurations_with_admissions(configuration, pending):
        try:
            decide(changed, command, claimed)
        except Refused as error:
            return error.refusals
    return ()
