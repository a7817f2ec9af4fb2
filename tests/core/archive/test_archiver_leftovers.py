"""Files that crashed archivers left are deleted; files of another history of the log stay."""

from __future__ import annotations

from pathlib import Path

from core.archive.archiver_leftovers import find_leftovers
from core.archive.cursor import new_base
from core.audit.verify import verify
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster


async def _sealed_cluster(directory: Path, per_segment: int = 2) -> ArchivedCluster:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(40, per_segment=per_segment, writers=2, held=10))
    cluster = ArchivedCluster(store, directory)
    await cluster.seal()
    return cluster


def _copy_with_number(cluster: ArchivedCluster, number: int) -> str:
    """Copy the files with number 1 to files with this number; return the base of the new names."""
    base = new_base(TEST_KEYS.cluster, number, 1)
    for path in sorted(cluster.directory.glob("*-00000001-*")):
        (cluster.directory / f"{base}{path.suffix}").write_bytes(path.read_bytes())
    return base


async def test_a_copy_of_sealed_files_is_deleted(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    base = _copy_with_number(cluster, 1)
    await cluster.seal()
    assert not [name for name in cluster.files.names() if name.startswith(base)]
    assert len(cluster.files.names()) == 3


async def test_files_stay_if_their_seal_may_still_run(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    base = _copy_with_number(cluster, 2)  # the number of the next file
    await cluster.seal()
    assert len([name for name in cluster.files.names() if name.startswith(base)]) == 3


async def test_files_of_another_history_stay_and_verify_reports_them(tmp_path: Path) -> None:
    """Another history starts when etcd is restored from a snapshot."""
    await _sealed_cluster(tmp_path, per_segment=2)
    cluster = await _sealed_cluster(tmp_path, per_segment=3)
    names = cluster.files.names()
    assert len(names) == 6  # three files of each history
    sealed = (await cluster.view()).sealed
    assert len(find_leftovers(cluster.files, sealed, TEST_KEYS.cluster).foreign) == 3
    await cluster.seal()
    assert cluster.files.names() == names
    report = await verify(cluster.store, TEST_KEYS, cluster.files)
    assert report.folded
    assert report.faults == ()
    assert len(report.notes) == 3


async def test_unfinished_files_of_earlier_seals_are_deleted(tmp_path: Path) -> None:
    cluster = await _sealed_cluster(tmp_path)
    partial = tmp_path / f"{new_base(TEST_KEYS.cluster, 1, 7)}.segments.0a0b0c0d.partial"
    partial.write_bytes(b"half")
    unrelated = tmp_path / "notes.txt"
    unrelated.write_text("not ours")
    await cluster.seal()
    assert not partial.exists()
    assert unrelated.exists()
