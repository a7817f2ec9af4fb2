"""The live log is read in order and in bounded windows. A missing segment raises LogGap."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.archive.archive_directory import LocalFiles
from core.archive.replay import open_log
from core.errors import LogCorrupt, LogGap
from core.eventstore import log_reader as log_module
from core.eventstore.codec import HEAD_CODEC, WriterHead
from core.eventstore.kv import Delete, KeyValueStore, Put
from core.eventstore.log_reader import LOG_START, LiveLog, LogReader, Segment
from core.eventstore.memory_store import MemoryStore
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster

SMALL_LIMITS = {
    "WINDOW_SEGMENTS": 8,
    "WINDOW_PER_WRITER_MIN": 2,
    "RANGES_PER_READ_MAX": 2,
    "SEGMENTS_PER_READ_MAX": 3,
}
"""Limits that split a short log into several windows and reads."""


async def _append_segments(store: KeyValueStore, writers: list[str]) -> None:
    seqs: dict[str, int] = {}
    for writer in writers:
        seqs[writer] = seq = seqs.get(writer, 0) + 1
        segment = Put(TEST_KEYS.log(writer, seq), f"{writer} {seq}".encode())
        await store.commit(
            [], [segment, Put(TEST_KEYS.head(writer), HEAD_CODEC.encode(WriterHead(seq, 1)))]
        )


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=40), st.integers(0, 45))
async def test_small_windows_read_the_same_log_as_one_large_window(
    writers: list[str], upto: int
) -> None:
    store = MemoryStore()
    await _append_segments(store, writers)
    read_at_once, _ = await LogReader(store, TEST_KEYS).catch_up(LOG_START)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in SMALL_LIMITS.items():
            patch.setattr(log_module, name, limit)
        heads = {writer: writers.count(writer) for writer in set(writers)}
        revision = 1 + len(writers)  # an empty store has revision 1, each commit adds 1
        live = LiveLog(store, TEST_KEYS, revision, heads=heads, sealed={})
        read_in_windows: list[Segment] = []
        async for segments in live.segments(0, upto):
            assert 0 < len(segments) <= SMALL_LIMITS["SEGMENTS_PER_READ_MAX"]
            read_in_windows += segments
    assert read_in_windows == [segment for segment in read_at_once if segment.position <= upto]


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_a_deleted_segment_raises_log_gap(tmp_path: Path, seq: int) -> None:
    store = MemoryStore()
    await _append_segments(store, ["a", "b", "a", "a"])
    await store.commit([], [Delete(TEST_KEYS.log("a", seq))])
    empty_archive = LocalFiles(tmp_path)
    view = await open_log(store, TEST_KEYS, empty_archive)

    with pytest.raises(LogGap, match=f"segment {seq} of writer a is missing"):
        [segments async for segments in view.live.segments()]


async def test_an_etcd_older_than_its_archive_is_refused(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.seal()  # moves the log into the archive
    older_head = HEAD_CODEC.encode(WriterHead(1, 1))  # as after a restore of an old etcd backup
    await archived_cluster.store.commit([], [Put(TEST_KEYS.head("node-a"), older_head)])

    with pytest.raises(LogCorrupt, match="older than the archive"):
        await archived_cluster.view()
