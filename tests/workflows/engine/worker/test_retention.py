"""Closed executions are archived, found by run id, and pruned by age."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.errors import ExecutionNotFound, LogCorrupt
from core.eventstore.keys import key_text
from core.eventstore.kv import Get, KeyValueStore, Put, ReadResult
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Chain
from tests.support.faulty_store import FaultyStore
from workflows.engine.client.client import Client
from workflows.engine.store.archive_files import DAY_MS, ExecutionFiles, file_name
from workflows.engine.store.keys import SHARD_COUNT, WorkflowKeys, new_id, shard_of
from workflows.engine.store.records import RunHead
from workflows.engine.worker.retention import Archive, retire
from workflows.engine.worker.worker import WorkerOptions
from workflows.model.policies import ExecutionStatus


def _head_closed_on(day: int) -> RunHead:
    return RunHead("one", new_id(0), "Chain", ExecutionStatus.COMPLETED, closed_ms=day * DAY_MS + 1)


def test_prune_deletes_the_oldest_files_first_and_at_most_files_max(tmp_path: Path) -> None:
    files = ExecutionFiles(tmp_path)
    heads = [_head_closed_on(day) for day in (1, 1, 1, 2, 3)]
    for head in heads:
        files.write(head, [])
        files.write(head, [])  # a worker repeats the step after a crash

    assert files.prune(3 * DAY_MS, files_max=2) == 2
    assert sum(files.read(head.run_id) is not None for head in heads) == 3
    assert files.prune(3 * DAY_MS) == 2
    assert files.prune(3 * DAY_MS) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["1970-01-04"]
    assert files.read(heads[-1].run_id) == (heads[-1], [])


def test_a_file_that_is_in_no_day_folder_is_read_and_deleted(tmp_path: Path) -> None:
    files, head = ExecutionFiles(tmp_path), _head_closed_on(1)
    files.write(head, [])
    written = next(tmp_path.glob("*/*.zst"))
    flat = written.rename(tmp_path / written.name)
    written.parent.rmdir()
    os.utime(flat, (1, 1))

    assert files.read(head.run_id) == (head, [])
    assert files.prune(DAY_MS) == 1
    assert files.read(head.run_id) is None


def test_the_error_for_an_unreadable_archived_execution_names_the_file(tmp_path: Path) -> None:
    files, head = ExecutionFiles(tmp_path), _head_closed_on(1)
    files.write(head, [])
    next(tmp_path.glob("*/*.zst")).write_bytes(b"dust")

    with pytest.raises(LogCorrupt, match=file_name(head.run_id)):
        files.read(head.run_id)
    assert files.read("../../etc/passwd") is None


class CountingStore(FaultyStore):
    """A store that counts the reads of all closed heads of a shard."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys) -> None:
        super().__init__(store)
        self._gets_of_shards = [
            Get(*keys.range_of("closed", shard)) for shard in range(SHARD_COUNT)
        ]
        self.shard_reads = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.shard_reads += sum(get in gets for get in self._gets_of_shards)
        return await super().read(gets, revision=revision)


async def test_archiving_reads_each_shard_once_and_lists_no_directory(
    engine: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: LocalFiles) -> list[str]:
        raise AssertionError("the directory was listed")

    monkeypatch.setattr(LocalFiles, "names", fail)
    store = CountingStore(engine.store, engine.client.keys)
    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.01)
    worker = await engine.start_worker(store=store, options=WorkerOptions(archive=archive))
    for number in range(6):
        await engine.run_workflow(Chain, ["a"], id=f"closed-{number}")

        async def are_archived(number: int = number) -> bool:
            return len(list(tmp_path.glob("*/*.zst"))) == number + 1

        await eventually(are_archived)

    assert store.shard_reads == len(worker.shards)


async def test_the_result_of_an_archived_run_comes_from_the_archive(
    engine: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.client.completions.ABSENT_S_MAX", 0.0)
    files = ExecutionFiles(tmp_path)
    archive = Archive(files, retention_s=0.0, sweep_s=0.01)
    await engine.start_worker(options=WorkerOptions(archive=archive))
    handle = await engine.client.start(Chain, ["a"], id="one")
    await within(handle.result())

    async def is_removed() -> bool:
        return not [head async for head in engine.visibility.heads()]

    await eventually(is_removed)
    async with Client(engine.store, engine.keys, files=files) as client:
        assert await within(client.result("one", handle.run_id)) == ["A"]
    with pytest.raises(ExecutionNotFound, match="neither in the store nor in the archive"):
        await within(handle.result())


async def test_archiving_continues_after_an_unreadable_closed_head(
    engine: EngineHarness, tmp_path: Path
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a"], id="one")
    await within(handle.result())
    key = engine.client.keys.closed("one", handle.run_id)
    (stored,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"dust")])
    await engine.workers[0].close()
    with pytest.raises(LogCorrupt, match="closed execution"):
        await within(handle.result())

    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.01)
    second = await engine.start_worker(options=WorkerOptions(archive=archive))
    neighbour = next(name for name in map(str, count()) if shard_of(name) == shard_of("one"))
    await engine.run_workflow(Chain, ["a"], id=neighbour)

    async def is_archived() -> bool:
        return len(list(tmp_path.glob("*/*.zst"))) == 1

    await eventually(is_archived)
    assert [fault.key for fault in second.faults] == [key_text(engine.keys, key)]
    await engine.store.commit([], [Put(key, stored.value)])


async def test_a_fault_of_archiving_disappears_when_the_shard_is_lost(
    engine: EngineHarness, tmp_path: Path
) -> None:
    worker = await engine.start_worker()
    handle = await engine.client.start(Chain, ["a"], id="one")
    await within(handle.result())
    assert worker.term is not None
    store, shard = worker.term.parts.store, worker.term.shards[shard_of("one")]
    await shard.closed_runs.read()
    key = engine.client.keys.closed("one", handle.run_id)
    (stored,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"dust")])

    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0)
    assert await retire(store, shard.closed_runs, shard.fence, archive) == 0
    assert [fault.key for fault in worker.faults] == [key_text(engine.keys, key)]
    store.faults.clear_shard(shard.number)

    assert not list(worker.faults)
    await engine.store.commit([], [Put(key, stored.value)])
