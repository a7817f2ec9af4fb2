"""Records the size (specified number of Pods) of applications without automatic pools.

The leader compares the watched applications with their last recorded sizes, and writes an
``application-scaled`` event for each difference. An application is recorded from the time that its
Pods first hold addresses until its deletion. ``workflows.jobs.autopools`` records the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from core.domain.autopools.applications import (
    Application,
    is_built_in,
    replicas_of,
    scale_of,
)
from core.domain.autopools.pool_names import application_of
from core.domain.events import TYPE_NAMES, ApplicationScaled, Cause
from core.errors import LogCorrupt, LostRace, OutcomeUnknown, StoreUnavailable, WriterFenced
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Proposal
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LogReader
from core.eventstore.writer import Writer
from core.projections.projector import Projector
from ops.kubernetes.watches.applications import KubernetesApplications

RECORD_INTERVAL_S: Final = 60.0

EVENTS_PER_ROUND_MAX: Final = 512
"""The next rounds write the other events."""

BATCH_EVENTS_MAX: Final = 64
"""A proposal has at most this many events, because etcd limits the size of requests."""

WRITER: Final = controller_writer("scales")
CAUSE: Final = Cause("orbweaver-controller/scales")

_EVENT_TYPE: Final = TYPE_NAMES[ApplicationScaled].encode()
"""Segments without this name are not decoded."""

OwnerName = tuple[str, str, str]
"""Kind, namespace and name of the owner of Pods."""


class ScaleRecorder:
    """The recorder of one cluster's applications; only the leader runs it."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        source: KubernetesApplications,
    ) -> None:
        self._store = store
        self._keys = keys
        self._projector = projector
        self._source = source
        self._sizes: dict[OwnerName, int] = {}
        self._begun_kinds: set[str] = set()
        self.rounds = 0

    async def run(self) -> None:
        """Record until cancelled. Raises LostRace when another controller leads."""
        await self._projector.wait_for(lambda: self._projector.ready)
        await self._source.listed()
        writer = Writer(self._store, self._keys, WRITER)
        try:
            await writer.open()
            self._sizes = await self._recorded_sizes()
            self._begun_kinds = set()
            self._begin_listed_kinds()
            while True:
                await asyncio.sleep(RECORD_INTERVAL_S)
                with suppress(StoreUnavailable, OutcomeUnknown):
                    await self.record(writer)
                self.rounds += 1
        except WriterFenced as error:
            why = "another controller leads now and records the sizes of applications"
            raise LostRace(why, subject=WRITER) from error
        finally:
            await writer.close()

    async def record(self, writer: Writer) -> None:
        """Write the events of one round. Raises StoreError, WriterFenced."""
        self._forget_deleted()
        self._begin_listed_kinds()
        changed = [
            application
            for application in self._recordable_applications()
            if self._sizes.get(_owner(application)) != replicas_of(application)
        ][:EVENTS_PER_ROUND_MAX]
        for begin in range(0, len(changed), BATCH_EVENTS_MAX):
            batch = changed[begin : begin + BATCH_EVENTS_MAX]
            # The batch has only built-in kinds, for which ``scale_of`` returns an event.
            events = [event for event in map(scale_of, batch) if event is not None]
            drafts = [EventDraft(writer.event_id(), CAUSE, event) for event in events]
            await writer.append(Proposal(tuple(drafts), guards=(), writes=()))
            self._sizes |= {_owner(application): replicas_of(application) for application in batch}

    def _forget_deleted(self) -> None:
        """Forget only sizes of listed kinds: the applications of other kinds are unknown."""
        listed_kinds = self._source.listed_kinds()
        known = {_owner(application) for application in self._source.known().values()}
        for owner in self._sizes.keys() - known:
            if owner[0] in listed_kinds:
                del self._sizes[owner]

    def _begin_listed_kinds(self) -> None:
        """Begin with the present size of each application that has no recorded size.

        A kind begins when it was first listed.
        """
        new_kinds = self._source.listed_kinds() - self._begun_kinds
        for application in self._recordable_applications():
            if application.key.kind in new_kinds:
                self._sizes.setdefault(_owner(application), replicas_of(application))
        self._begun_kinds |= new_kinds

    def _recordable_applications(self) -> Iterator[Application]:
        """Built-in applications without automatic pools whose Pods hold or held addresses."""
        ledger = self._projector.projection.ledger
        owners = {
            (endpoint.owner_kind, endpoint.namespace, endpoint.owner_name)
            for endpoint in ledger.endpoints.values()
        }
        keys_with_pools = {application_of(pool.labels) for pool in ledger.pools.values()}
        for key, application in self._source.known().items():
            holds_or_held = _owner(application) in owners or _owner(application) in self._sizes
            if holds_or_held and is_built_in(key) and key not in keys_with_pools:
                yield application

    async def _recorded_sizes(self) -> dict[OwnerName, int]:
        sizes: dict[OwnerName, int] = {}
        segments, _ = await LogReader(self._store, self._keys).live()
        for segment in segments:
            if _EVENT_TYPE not in segment.data:
                continue
            with suppress(LogCorrupt):  # the projector reports corrupt segments
                for recorded in segment.events():
                    event = recorded.event
                    if isinstance(event, ApplicationScaled):
                        sizes[event.kind, event.namespace, event.name] = event.replicas
        return sizes


def _owner(application: Application) -> OwnerName:
    key = application.key
    return key.kind, key.namespace, key.name
