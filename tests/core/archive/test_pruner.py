"""Pruning deletes the oldest files of the archive; the remaining files can still be verified."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from core.archive.archiver import Archiver
from core.archive.cursor import CURSOR_CODEC, NOTHING_PRUNED, SNAPSHOT_SUFFIX, read_cursor
from core.archive.file_format import NO_FILE
from core.archive.pruner import (
    Pruner,
    PruneResult,
    Retention,
    SizedFile,
    count_surplus,
    sized_files,
)
from core.archive.replay import open_log
from core.archive.sealed_log import FileSummary
from core.audit.log_export import export_raw
from core.audit.state_at import as_of_position, as_of_time
from core.audit.verify import verify
from core.errors import BadInput, LogCorrupt
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.breaking import BreakingFiles, BreakingStore, Crash, CrashingSteps
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, have_same_content
from tests.support.node_harness import pool

FILE_BYTES = 3_000
STEPS_OF_A_PRUNE = range(1, 14)
"""A prune of two files has at most 13 writes to store and directory."""

NOW_MS = 10_000_000


async def _filled_cluster(directory: Path) -> ArchivedCluster:
    store = MemoryStore()
    shape = Shape(60, per_segment=2, writers=2, held=10)
    await fill(store, TEST_KEYS, shape)
    cluster = ArchivedCluster(store, directory)
    await cluster.seal(file_bytes_max=FILE_BYTES)
    return cluster


def _pruner(cluster: ArchivedCluster) -> Pruner:
    return Pruner(cluster.store, TEST_KEYS, cluster.files)


async def _check_clean(cluster: ArchivedCluster) -> None:
    report = await verify(cluster.store, TEST_KEYS, cluster.files)
    assert report.faults == ()
    assert report.violations == ()
    assert report.folded, "verify must read the log to its end"


async def test_remaining_files_can_be_verified_and_replay_to_the_same_state(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    original = await open_log(cluster.store, TEST_KEYS, cluster.files)
    before = await as_of_position(original, original.revision)
    events = [event async for batch in original.events() for event in batch]
    pruned = await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    view = await open_log(cluster.store, TEST_KEYS, cluster.files)
    remaining = [event async for batch in view.events() for event in batch]

    assert pruned.files == 2
    assert remaining == [event for event in events if event.position > pruned.position]
    assert have_same_content(await as_of_position(view, view.revision), before)
    assert have_same_content(
        (await as_of_position(view, pruned.position)), view.sealed.first_state().ledger
    )
    await _check_clean(cluster)


async def test_only_the_last_snapshot_of_the_pruned_files_stays(
    tmp_path: Path,
) -> None:
    cluster = await _filled_cluster(tmp_path)
    pruned_bases = [summary.link.base for summary in (await cluster.view()).sealed.summaries()[:2]]
    await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    remaining = [name for name in cluster.files.names() if name.partition(".")[0] in pruned_bases]
    assert remaining == [pruned_bases[1] + SNAPSHOT_SUFFIX]

    await _pruner(cluster).prune(Retention(), NOW_MS, files=1)

    assert not [name for name in cluster.files.names() if name.partition(".")[0] in pruned_bases]


async def test_sealing_continues_after_all_files_were_pruned(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    await _pruner(cluster).prune(Retention(), NOW_MS, files=99)
    async with cluster.node as node:
        for number in range(1, 41):
            subnet = f"fd00:{number:x}::/64"
            await node.apply(pool(f"six-{number}", f"fd00:{number:x}::1", subnet=subnet))
    await cluster.seal(file_bytes_max=FILE_BYTES)
    cursor = (await read_cursor(cluster.store, TEST_KEYS)).cursor

    assert cursor.files - cursor.pruned.files > 1
    assert await cluster.live_segments() == 0
    await _check_clean(cluster)


async def test_the_error_of_a_query_before_the_pruned_position_names_the_position(
    tmp_path: Path,
) -> None:
    cluster = await _filled_cluster(tmp_path)
    pruned = await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    view = await open_log(cluster.store, TEST_KEYS, cluster.files)

    with pytest.raises(BadInput, match=f"no state before position {pruned.position}"):
        await as_of_position(view, pruned.position - 1)
    with pytest.raises(BadInput, match="was pruned"):
        await as_of_time(view, 0)


async def test_a_pruned_log_cannot_be_exported(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    await _pruner(cluster).prune(Retention(), NOW_MS, files=1)

    with pytest.raises(BadInput, match="was pruned"):
        await export_raw(await cluster.view(), TEST_KEYS.cluster, io.BytesIO())


async def test_a_changed_snapshot_prevents_pruning_and_fails_verify(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    snapshot_name = (await cluster.view()).sealed.summaries()[1].link.base + SNAPSHOT_SUFFIX
    path = tmp_path / snapshot_name
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(LogCorrupt, match="old archive files are not deleted"):
        await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    path.write_bytes(original)
    await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))

    report = await verify(cluster.store, TEST_KEYS, cluster.files)

    assert [fault.subject for fault in report.faults] == [snapshot_name]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS_OF_A_PRUNE)
async def test_a_crash_at_any_step_of_a_prune_is_harmless(
    tmp_path: Path, step: int, *, after: bool
) -> None:
    cluster = await _filled_cluster(tmp_path)
    steps = CrashingSteps(step, after=after)
    store, files = BreakingStore(cluster.store, steps), BreakingFiles(cluster.files, steps)
    try:
        await Pruner(store, TEST_KEYS, files).prune(Retention(), NOW_MS, files=2)
    except Crash:
        assert not steps.has_completed
    await _check_clean(cluster)
    await _pruner(cluster).prune(Retention(), NOW_MS, files=2)
    await Archiver(cluster.store, TEST_KEYS, cluster.files).seal()
    await _check_clean(cluster)
    sealed = (await cluster.view()).sealed
    expected_bases = {summary.link.base for summary in sealed.summaries()} | {
        sealed.cursor.pruned.last.base
    }
    # The snapshot of the last pruned file may stay.
    assert {name.partition(".")[0] for name in cluster.files.names()} <= expected_bases


async def test_the_crash_tests_cover_every_step(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    steps = CrashingSteps(STEPS_OF_A_PRUNE.stop, after=False)
    store, files = BreakingStore(cluster.store, steps), BreakingFiles(cluster.files, steps)
    pruned = await Pruner(store, TEST_KEYS, files).prune(Retention(), NOW_MS, files=2)

    assert pruned.files == 2
    assert steps.has_completed


async def test_a_prune_deletes_nothing_if_the_cursor_has_changed(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    stale_cursor = await read_cursor(cluster.store, TEST_KEYS)
    pruner = _pruner(cluster)
    sealed = (await cluster.view()).sealed
    pruned_part = pruner._pruned_part(sealed, sealed.summaries()[0])
    await pruner.prune(Retention(), NOW_MS, files=1)
    names = cluster.files.names()

    assert await pruner._commit(stale_cursor, pruned_part) is None
    assert cluster.files.names() == names


def _sized_file(number: int, sealed_at_ms: int, size: int) -> SizedFile:
    return SizedFile(
        FileSummary(
            NO_FILE,
            number,
            first_position=0,
            last_position=0,
            segments=0,
            events=0,
            clock_ms=0,
            sealed_at_ms=sealed_at_ms,
        ),
        size,
    )


def test_files_beyond_a_limit_are_surplus_except_the_newest_file() -> None:
    # Five files of 100 bytes; 0 means no limit.
    files = [_sized_file(number, number * 1_000, 100) for number in range(1, 6)]

    assert count_surplus(files, Retention(age_s=0.0, bytes_max=0), now_ms=100_000) == 0
    assert count_surplus(files, Retention(age_s=97.0, bytes_max=0), now_ms=100_000) == 2
    assert count_surplus(files, Retention(age_s=0.0, bytes_max=250), now_ms=100_000) == 3
    assert count_surplus(files, Retention(age_s=1.0, bytes_max=1), now_ms=100_000) == 4
    assert count_surplus(files[:1], Retention(age_s=1.0, bytes_max=1), now_ms=100_000) == 0


async def test_an_archive_within_its_retention_is_not_pruned(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)

    assert await _pruner(cluster).prune(Retention(), NOW_MS) == PruneResult(0)
    assert len(sized_files((await cluster.view()).sealed)) > 2


async def test_a_cursor_of_a_version_without_pruning_can_be_read(tmp_path: Path) -> None:
    cluster = await _filled_cluster(tmp_path)
    cursor = (await read_cursor(cluster.store, TEST_KEYS)).cursor
    encoded = CURSOR_CODEC.encode(tuple(cursor)[:-1])  # type: ignore[arg-type]  # without the field "pruned"

    assert CURSOR_CODEC.decode(encoded) == cursor._replace(pruned=NOTHING_PRUNED)
