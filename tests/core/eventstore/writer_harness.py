"""A harness for writers whose memory store can inject faults."""

from __future__ import annotations

from core.domain.events import Cause, PoolRetired
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Proposal
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Guard, Put
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from tests.support.faulty_store import FaultyStore


class WriterHarness:
    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.keys = Keys("test")
        self.writer = self.new_writer("writer-a")

    def new_writer(self, name: str) -> Writer:
        """Return a writer that the caller has to open."""
        return Writer(self.store, self.keys, name, now_ms=lambda: 1_000)

    def proposal(
        self, name: str, *guards: Guard, writer: Writer | None = None, size: int = 1
    ) -> Proposal:
        """A proposal that writes the key ``name``, by default only if the key does not exist."""
        key = self.keys.meta(name)
        draft = EventDraft((writer or self.writer).event_id(), Cause("test"), PoolRetired(name))
        return Proposal((draft,), guards or (Absent(key),), (Put(key, b"x" * size),))
