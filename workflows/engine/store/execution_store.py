"""The stored executions as one worker session reads and writes them."""

from __future__ import annotations

from typing import NamedTuple

from core.eventstore.kv import KeyValueStore
from workflows.engine.clock import Clock
from workflows.engine.store.committer import Committer
from workflows.engine.store.draft import HistoryDraft
from workflows.engine.store.faults import WorkerFaults
from workflows.engine.store.history_reader import read_whole_history
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead
from workflows.model.events import HistoryEvent


class ExecutionStore(NamedTuple):
    """Reads go to ``kv``, writes through ``committer``; unusable values are noted in ``faults``.

    Events are recorded with ``clock`` and ``identity``, the name of the session.
    """

    kv: KeyValueStore
    keys: WorkflowKeys
    committer: Committer
    clock: Clock
    faults: WorkerFaults
    identity: str

    def draft(self, head: RunHead, now_ms: int | None = None) -> HistoryDraft:
        """A new draft on top of a head, by default as of now."""
        at_ms = self.clock.now_ms() if now_ms is None else now_ms
        return HistoryDraft(self.keys, head, at_ms, identity=self.identity)

    async def history(self, head: RunHead) -> list[HistoryEvent]:
        """All events of a run. Raises UnusableValue, StoreUnavailable."""
        return await read_whole_history(self.kv, self.keys, head)
