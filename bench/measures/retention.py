"""The time to retire (archive and delete) closed executions among many others, and among few.

Two workers, each with its own etcd, retire their oldest executions in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from bench.figures import Figure, ratio_figure
from bench.rig.lab import Lab
from bench.rig.sample_workflows import SAMPLE_REGISTRY, Errand
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put, Write
from tests.support.etcd import EtcdCluster
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.keys import SHARD_COUNT, WorkflowKeys, new_id
from workflows.engine.store.records import HEAD_CODEC, RunHead, encode_history
from workflows.engine.worker.retention import Archive, retire
from workflows.engine.worker.worker import Worker
from workflows.model.events import HistoryEvent
from workflows.model.policies import ExecutionStatus
from workflows.testing.environment import WorkflowEnvironment

FEW_EXECUTIONS: Final = 100

RETIRED_A_ROUND: Final = 9

GAP_MS: Final = 60_000
"""Milliseconds between the ends of consecutive executions."""

FIRST_CLOSED_MS: Final = 1_700_000_000_000
"""The end of the first execution, Unix milliseconds."""

PUTS_A_COMMIT: Final = 100


class RetiringWorker:
    """A worker that retires its oldest closed executions on request."""

    def __init__(self, worker: Worker, files: ExecutionFiles) -> None:
        self._worker = worker
        self._files = files
        self._retired = 0

    async def retire(self, count: int) -> float:
        """Retire the oldest executions of all shards; return the seconds."""
        self._retired += count
        due_ms = FIRST_CLOSED_MS + self._retired * GAP_MS - GAP_MS / 2
        archive = Archive(self._files, time.time() - due_ms / 1e3)
        term = self._worker.term
        assert term is not None, "the worker does not own shards"
        began, retired = time.perf_counter(), 0
        for shard in term.shards.values():
            retired += await retire(term.parts.store, shard.closed_runs, shard.fence, archive)
        assert retired == count, (retired, count)
        return time.perf_counter() - began


def measure(lab: Lab) -> list[Figure]:
    """Measure retention_scale_ratio."""
    many = lab.scale.closed
    history = asyncio.run(_history())
    with (
        lab.etcd(_seed(lab, FEW_EXECUTIONS, history)) as small,
        lab.etcd(_seed(lab, many, history)) as large,
    ):
        ratios = asyncio.run(_compare(lab, small, large))
    events = len(history)
    note = f"{RETIRED_A_ROUND} of {many:,} closed executions with {events} events each, per round"
    return [
        ratio_figure("retention_scale_ratio", ratios, f"the time among {FEW_EXECUTIONS:,}", note)
    ]


async def _compare(lab: Lab, small: EtcdCluster, large: EtcdCluster) -> list[float]:
    ratios: list[float] = []
    async with AsyncExitStack() as stack:
        few, many = [
            await stack.enter_async_context(_retirement(lab, etcd)) for etcd in (small, large)
        ]
        for number in lab.rounds():
            turns = (few, many) if number % 2 else (many, few)
            durations_s = {
                retirement: await retirement.retire(RETIRED_A_ROUND) for retirement in turns
            }
            ratios.append(durations_s[many] / durations_s[few])
    return ratios


@asynccontextmanager
async def _retirement(lab: Lab, etcd: EtcdCluster) -> AsyncIterator[RetiringWorker]:
    """Start a worker, and wait until it owns all shards."""
    files = ExecutionFiles(lab.new_directory("archive"))
    async with (
        lab.store(etcd) as store,
        Worker(store, lab.keys, SAMPLE_REGISTRY, name="worker") as worker,
    ):
        while len(worker.shards) < SHARD_COUNT:
            await asyncio.sleep(0.05)
        retirement = RetiringWorker(worker, files)
        # Not measured: in these retirements, the worker reads data that it then keeps.
        await retirement.retire(0)
        await retirement.retire(RETIRED_A_ROUND)
        yield retirement


def _seed(lab: Lab, count: int, history: Sequence[HistoryEvent]) -> Path:
    segment = encode_history(history)

    async def fill(store: KeyValueStore, keys: Keys) -> None:
        workflow_keys = WorkflowKeys(keys)
        puts: list[Write] = []
        for number in range(count):
            head = _closed_head(number, len(history) + 1, len(segment))
            puts.append(
                Put(workflow_keys.closed(head.workflow_id, head.run_id), HEAD_CODEC.encode(head))
            )
            puts.append(Put(workflow_keys.event(head.workflow_id, head.run_id, 1), segment))
            if len(puts) >= PUTS_A_COMMIT or number == count - 1:
                await store.commit([], puts)
                puts.clear()

    return lab.seed(f"{count} closed executions", fill)


def _closed_head(number: int, next_event_id: int, history_bytes: int) -> RunHead:
    closed_ms = FIRST_CLOSED_MS + number * GAP_MS
    return RunHead(
        workflow_id=f"errand-{number}",
        run_id=new_id(closed_ms),
        workflow_type="Errand",
        status=ExecutionStatus.COMPLETED,
        next_event_id=next_event_id,
        history_bytes=history_bytes,
        started_ms=closed_ms,
        closed_ms=closed_ms,
    )


async def _history() -> list[HistoryEvent]:
    async with WorkflowEnvironment(SAMPLE_REGISTRY) as environment:
        handle = await environment.start(Errand, 1)
        await handle.result()
        return list(await handle.history())
