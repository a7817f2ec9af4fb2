"""A crash at any step of a seal loses nothing, and the next seal finishes the work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.archiver import Archiver
from core.archive.cursor import read_cursor
from core.domain.events import Recorded
from core.errors import OutcomeUnknown
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.breaking import (
    BreakingFiles,
    BreakingStore,
    Crash,
    CrashingSteps,
    LostAnswerStore,
)
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster

FILE_BYTES = 7_000
STEPS_OF_A_SEAL = range(1, 20)


async def _filled_cluster(directory: Path) -> ArchivedCluster:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(60, per_segment=2, writers=2, held=10))
    return ArchivedCluster(store, directory)


async def _check_finished(cluster: ArchivedCluster, before: list[Recorded]) -> None:
    """Assert that the whole log is sealed unchanged, and no other file is left."""
    assert await cluster.live_segments() == 0
    assert await cluster.replayed() == before
    sealed = (await cluster.view()).sealed
    sealed_bases = {summary.link.base for summary in sealed.summaries()}
    assert {name.partition(".")[0] for name in cluster.files.names()} == sealed_bases
    assert len(cluster.files.names()) == 3 * len(sealed_bases)  # segments, index, snapshot
    assert cluster.files.partials() == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS_OF_A_SEAL)
async def test_a_crash_at_any_step_of_a_seal_is_harmless(
    tmp_path: Path, step: int, *, after: bool
) -> None:
    cluster = await _filled_cluster(tmp_path)
    before = await cluster.replayed()
    steps = CrashingSteps(step, after=after)
    archiver = Archiver(
        BreakingStore(cluster.store, steps),
        TEST_KEYS,
        BreakingFiles(cluster.files, steps),
        file_bytes_max=FILE_BYTES,
    )
    try:
        await archiver.seal()
    except Crash:
        assert not steps.has_completed
    assert await cluster.replayed() == before
    await cluster.seal(file_bytes_max=FILE_BYTES)
    await cluster.seal(file_bytes_max=FILE_BYTES)  # deletes files that the crash left
    await _check_finished(cluster, before)


async def test_the_crash_tests_cover_every_step(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    steps = CrashingSteps(STEPS_OF_A_SEAL.stop, after=False)
    store, files = BreakingStore(cluster.store, steps), BreakingFiles(cluster.files, steps)
    sealed = await Archiver(store, TEST_KEYS, files, file_bytes_max=FILE_BYTES).seal()
    assert steps.has_completed
    assert sealed.files > 1


@pytest.mark.parametrize("step", range(4, 9))  # each step writes a file or commits
async def test_the_next_seal_finishes_the_work_after_a_lost_answer(
    tmp_path: Path, step: int
) -> None:
    cluster = await _filled_cluster(tmp_path)
    before = await cluster.replayed()
    steps = CrashingSteps(step, after=True)
    store, files = LostAnswerStore(cluster.store, steps), BreakingFiles(cluster.files, steps)
    try:
        await Archiver(store, TEST_KEYS, files, file_bytes_max=FILE_BYTES).seal()
    except (OutcomeUnknown, Crash):
        assert not steps.has_completed
    await cluster.seal(file_bytes_max=FILE_BYTES)
    await cluster.seal(file_bytes_max=FILE_BYTES)
    await _check_finished(cluster, before)


class _FilesWithConcurrentSeal(LocalFiles):
    """Archive files; another archiver seals the whole log during the first write."""

    def __init__(self, directory: Path, cluster: ArchivedCluster) -> None:
        super().__init__(directory)
        self._cluster_to_seal = cluster
        self._loop = asyncio.get_running_loop()

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        cluster, self._cluster_to_seal = self._cluster_to_seal, None  # type: ignore[assignment]  # once only
        if cluster is not None:
            other = Archiver(
                cluster.store, TEST_KEYS, cluster.files, file_bytes_max=FILE_BYTES // 2
            )
            asyncio.run_coroutine_threadsafe(other.seal(), self._loop).result()
        super().write(name, chunks)


async def test_an_archiver_leaves_no_file_of_its_own_if_another_sealed_the_log(
    tmp_path: Path,
) -> None:
    cluster = await _filled_cluster(tmp_path)
    before = await cluster.replayed()
    superseded = Archiver(
        cluster.store,
        TEST_KEYS,
        _FilesWithConcurrentSeal(tmp_path, cluster),
        file_bytes_max=FILE_BYTES,
    )
    sealed = await superseded.seal()
    assert sealed.superseded
    assert sealed.files == 0
    await _check_finished(cluster, before)


async def test_concurrent_archivers_seal_the_log_once(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    before = await cluster.replayed()
    await asyncio.gather(
        *(cluster.seal(file_bytes_max=size) for size in (FILE_BYTES, FILE_BYTES // 2, 10_000))
    )
    await cluster.seal()
    await _check_finished(cluster, before)
    cursor = (await read_cursor(cluster.store, TEST_KEYS)).cursor
    assert cursor.position == max(event.position for event in await cluster.replayed())
