"""The live log is read in order, in bounded windows, and a missing segment is reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.archive.replay import open_log
from core.errors import LogCorrupt, LogGap
from core.eventstore import log as log_module
from core.eventstore.codec import HEAD, WriterHead
from core.eventstore.kv import Delete, KeyValueStore, Put
from core.eventstore.log import START, LiveLog, LogReader, Segment
from core.eventstore.memory import MemoryStore
from tests.support.archived_cluster import KEYS, ArchivedCluster

BOUNDS = {
    "WINDOW_SEGMENTS": 8,
    "WINDOW_PER_WRITER_MIN": 2,
    "RANGES_PER_READ_MAX": 2,
    "SEGMENTS_PER_READ_MAX": 3,
}
"""So small that a short log has several windows and reads."""


async def _append(store: KeyValueStore, writers: list[str]) -> None:
    seqs: dict[str, int] = {}
    for writer in writers:
        seqs[writer] = seq = seqs.get(writer, 0) + 1
        segment = Put(KEYS.log(writer, seq), f"{writer} {seq}".encode())
        await store.commit([], [segment, Put(KEYS.head(writer), HEAD.encode(WriterHead(seq, 1)))])


async def _live(store: KeyValueStore, cluster: ArchivedCluster) -> LiveLog:
    view = await open_log(store, KEYS, cluster.files)
    return view.live


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=40), st.integers(0, 45))
async def test_small_windows_read_the_same_log_as_one_large_one(
    writers: list[str], upto: int
) -> None:
    store = MemoryStore()
    await _append(store, writers)
    read_at_once, _ = await LogReader(store, KEYS).catch_up(START)
    with pytest.MonkeyPatch.context() as patch:
        for name, bound in BOUNDS.items():
            patch.setattr(log_module, name, bound)
        heads = {writer: writers.count(writer) for writer in set(writers)}
        live = LiveLog(store, KEYS, max(len(writers) + 1, 1), heads, {})
        read_in_windows: list[Segment] = []
        async for segments in live.segments(0, upto):
            assert 0 < len(segments) <= BOUNDS["SEGMENTS_PER_READ_MAX"]
            read_in_windows += segments
    assert read_in_windows == [segment for segment in read_at_once if segment.position <= upto]


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_a_segment_that_is_gone_is_a_gap(archived_cluster: ArchivedCluster, seq: int) -> None:
    store = MemoryStore()
    await _append(store, ["a", "b", "a", "a"])
    await store.commit([], [Delete(KEYS.log("a", seq))])
    with pytest.raises(LogGap, match=f"segment {seq} of writer a is missing"):
        [segments async for segments in (await _live(store, archived_cluster)).segments(0, 99)]


async def test_an_etcd_that_was_set_back_behind_its_archive_is_refused(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.seal()
    key = KEYS.head("node-a")
    await archived_cluster.store.commit([], [Put(key, HEAD.encode(WriterHead(1, 1)))])
    with pytest.raises(LogCorrupt, match="older than the archive"):
        await archived_cluster.view()
