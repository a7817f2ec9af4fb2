"""A replay of the archive and ``verify`` detect changed files.

A ``.ledger`` file is a snapshot of the state after the segments of the ``.segments`` file. A report
is ``folded`` if ``verify`` read the log to its end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.audit.verify import verify
from core.domain.events import Recorded
from core.errors import LogCorrupt
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster


async def _sealed_cluster(
    directory: Path, events: int = 60, file_bytes_max: int = 8_000
) -> ArchivedCluster:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(events, per_segment=3, writers=2, held=10))
    cluster = ArchivedCluster(store, directory)
    assert await cluster.seal(file_bytes_max=file_bytes_max) > 1
    return cluster


def _file(cluster: ArchivedCluster, suffix: str, index: int = 0) -> Path:
    names = [name for name in cluster.files.names() if name.endswith(suffix)]
    return cluster.directory / names[index]


async def _read_log(cluster: ArchivedCluster) -> tuple[str, list[Recorded]]:
    """Return all events of the log, or the name of a corrupt file and no events."""
    try:
        return "", await cluster.replayed()
    except LogCorrupt as error:
        return error.subject, []


def _flip_bit(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


async def test_any_changed_byte_of_a_segments_file_is_detected_or_harmless(
    tmp_path: Path,
) -> None:
    cluster = await _sealed_cluster(tmp_path)
    before = await cluster.replayed()
    path = _file(cluster, ".segments")
    content = path.read_bytes()
    harmless_changes = 0
    for offset in range(0, len(content), 11):
        _flip_bit(path, offset)
        corrupt_file, events = await _read_log(cluster)
        assert corrupt_file == path.name.partition(".")[0] or events == before
        harmless_changes += not corrupt_file
        path.write_bytes(content)
    assert harmless_changes < 3  # only unused bits of a zstd frame may change without effect


async def test_only_the_changed_block_of_a_file_is_unreadable(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path, events=3_000, file_bytes_max=1 << 19)
    sealed = (await cluster.view()).sealed
    link = sealed.summaries()[0].link
    blocks = sealed.open(link).trailer.blocks
    assert len(blocks) > 2
    _flip_bit(_file(cluster, ".segments"), blocks[1].offset + blocks[1].size // 2)
    file = (await cluster.view()).sealed.open(link)
    assert file.segments(0)
    assert file.segments(2)
    with pytest.raises(LogCorrupt, match="block 1"):
        file.segments(1)


async def test_a_truncated_segments_file_is_detected(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    path = _file(cluster, ".segments")
    for size in (0, 5, 40, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(LogCorrupt):
            await cluster.replayed()


async def test_a_file_replaced_by_a_file_of_another_log_is_detected(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path / "one")
    other = await _sealed_cluster(tmp_path / "other", events=66)
    _file(cluster, ".segments").write_bytes(_file(other, ".segments").read_bytes())
    with pytest.raises(
        LogCorrupt, match="its digest differs from that in the archive cursor or the next file"
    ):
        await cluster.replayed()


async def test_verify_names_a_missing_segments_file(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    path = _file(cluster, ".segments")
    path.unlink()
    with pytest.raises(LogCorrupt, match="missing"):
        await cluster.replayed()
    report = await verify(cluster.store, TEST_KEYS, cluster.files)
    assert not report.is_clean
    assert [fault.subject for fault in report.faults] == [path.name]


async def test_verify_names_a_changed_index_and_a_changed_snapshot(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    index, snapshot = _file(cluster, ".index"), _file(cluster, ".ledger", -1)
    _flip_bit(index, 100)
    _flip_bit(snapshot, 30)
    report = await verify(cluster.store, TEST_KEYS, cluster.files)
    reported = {fault.subject.partition(".")[0] for fault in report.faults}
    assert reported == {index.name.partition(".")[0], snapshot.name.partition(".")[0]}
    assert report.folded


async def test_verify_continues_from_the_snapshot_if_a_segments_file_is_broken(
    tmp_path: Path,
) -> None:
    cluster = await _sealed_cluster(tmp_path)
    path = _file(cluster, ".segments")
    sealed = (await cluster.view()).sealed
    block = sealed.open(sealed.summaries()[0].link).trailer.blocks[0]
    _flip_bit(path, block.offset + block.size // 2)
    report = await verify(cluster.store, TEST_KEYS, cluster.files)
    assert report.folded
    assert [fault.subject for fault in report.faults] == [path.name.partition(".")[0]]
    assert report.violations == ()


async def test_verify_stops_at_a_broken_file_that_has_no_snapshot(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    path = _file(cluster, ".segments")
    sealed = (await cluster.view()).sealed
    block = sealed.open(sealed.summaries()[0].link).trailer.blocks[0]
    _flip_bit(path, block.offset + block.size // 2)
    _file(cluster, ".ledger").unlink()

    report = await verify(cluster.store, TEST_KEYS, cluster.files)

    assert not report.folded
    assert [fault.subject for fault in report.faults] == [path.name.partition(".")[0]]
