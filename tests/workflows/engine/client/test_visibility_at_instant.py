"""The state of executions at a past instant is computed from their histories."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.eventstore.kv import Get, ReadResult
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import unix_ms
from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import Basket
from workflows.engine.client import visibility_at_instant
from workflows.engine.client.visibility_at_instant import ArchivedHeads, PastVisibility
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.records import RunHead
from workflows.model.events import HistoryEvent
from workflows.model.policies import ExecutionStatus

EXECUTIONS = 3


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads += 1
        return await super().read(gets, revision=revision)


async def test_each_history_is_evaluated_before_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CountingStore()
    engine = EngineHarness(store)
    await engine.start_worker()
    handles = [await engine.client.start(Basket, id=f"b{number}") for number in range(EXECUTIONS)]
    for handle in handles:
        await engine.until_status(handle.workflow_id, ExecutionStatus.RUNNING)
    at_ms = unix_ms()
    while unix_ms() == at_ms:  # the runs must change after the instant
        await asyncio.sleep(0)
    for handle in handles:
        await handle.signal("close")
        await within(handle.result())
    await engine.close()
    reads_before: list[int] = []
    head_at = visibility_at_instant.head_at

    def noting_reads(head: RunHead, events: Sequence[HistoryEvent], instant: int) -> RunHead | None:
        reads_before.append(store.reads)
        return head_at(head, events, instant)

    monkeypatch.setattr(visibility_at_instant, "head_at", noting_reads)
    monkeypatch.setattr(visibility_at_instant, "HISTORIES_PER_READ", 1)
    archive = ArchivedHeads(ExecutionFiles(tmp_path))
    past = PastVisibility(store, engine.client.keys, archive, at_ms=at_ms, now_ms=unix_ms())

    heads = (await past.executions()).heads

    assert [head.status for head in heads] == [ExecutionStatus.RUNNING] * EXECUTIONS
    assert [reads - reads_before[0] for reads in reads_before] == list(range(EXECUTIONS))
    await store.close()
