"""Lists of events and the extent of the log if archive files are damaged or not indexed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.archive.unread_parts import UNREAD_PARTS_LISTED_MAX, UnreadPartList
from core.audit.history import read_history
from core.audit.history_entries import HistorySubject
from core.audit.indexed_log import IndexedLog, LogInstant
from core.domain.events import AddressesClaimed
from core.errors import LogCorrupt
from core.eventstore.log_reader import Segment
from core.eventstore.writer import unix_ms
from ops.console.events import (
    EventConditions,
    events_after,
    events_before,
    parse_event_position,
)
from ops.console.json_values import time_ms_of, time_text
from ops.console.log_extent import log_extent
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, CniAdd, CniDel

EVERY_EVENT = EventConditions()


async def archived_log(cluster: ArchivedCluster) -> IndexedLog:
    """A partly archived log; its index in memory has only the last three events."""
    ticks = itertools.count(unix_ms(), 1_000)
    cluster.now_ms = lambda: next(ticks)
    await cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(4)])
    await cluster.execute([CniDel("node-a", f"web-{number}") for number in range(3)])
    await cluster.seal(file_bytes_max=500)
    await cluster.execute([CniAdd("node-a", "late")])
    return IndexedLog(
        cluster.store, TEST_KEYS, cluster.files, now_ms=cluster.now_ms, window_events_max=3
    )


async def test_events_after_a_position_continue_in_the_next_archive_file(
    archived_cluster: ArchivedCluster,
) -> None:
    log = await archived_log(archived_cluster)
    instant = await log.now()
    assert instant.log.first_position > 0
    replayed = await archived_cluster.replayed()
    listed: list[tuple[int, int]] = []
    cursor = "0"
    for _ in range(2 * len(replayed) + 2):
        page = await events_after(log, instant, parse_event_position(cursor), EventConditions(), 2)
        listed += [(item["position"], item["place"]) for item in page["items"]]
        if page["cursor"] is None:
            break
        cursor = page["cursor"]
    assert listed == [(event.position, event.index_in_segment) for event in replayed]


async def test_a_damaged_archive_block_is_left_out_and_reported(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_log(archived_cluster)
    all_events = await archived_cluster.replayed()
    first, last = await _flip_bit(archived_cluster, file_number=1)
    with pytest.raises(LogCorrupt, match="block 0"):
        await archived_cluster.replayed()
    readable = [event for event in all_events if not first <= event.position <= last]
    assert readable[0].position < first < last < readable[-1].position

    log = IndexedLog(
        *(archived_cluster.store, TEST_KEYS, archived_cluster.files), now_ms=archived_cluster.now_ms
    )
    instant = await log.now()
    page = await events_after(
        log, instant, parse_event_position("0"), EventConditions(), len(all_events)
    )
    assert [item["position"] for item in page["items"]] == [event.position for event in readable]
    newest = await events_before(log, instant, None, EventConditions(), len(all_events))
    assert [item["position"] for item in newest["items"]][::-1] == [
        event.position for event in readable
    ]
    past = await read_history(log.view, HistorySubject("use", "main"))
    claim_positions = {entry.began.position for entry in past.entries}
    assert claim_positions == {
        event.position for event in readable if isinstance(event.event, AddressesClaimed)
    }

    (unread,) = _extent(log, instant)["unread"]
    assert (unread["first"], unread["last"]) == (first, last)
    assert f"the log at positions {first} to {last} is left out" in unread["message"]
    assert "restore it from a copy" in unread["remedy"]

    await archived_cluster.execute([CniAdd("node-a", "after-the-damage")])
    later = await log.at_position((await archived_cluster.view()).revision)
    new_events = await events_after(
        log, later, parse_event_position(str(readable[-1].position)), EVERY_EVENT, 9
    )
    assert [item["subject"] for item in new_events["items"]] == ["pod/shop/after-the-damage"]


async def test_the_extent_of_the_log_includes_a_damaged_first_archive_file(
    archived_cluster: ArchivedCluster,
) -> None:
    log = await archived_log(archived_cluster)
    first, last = await _flip_bit(archived_cluster, file_number=0)
    instant = await log.now()
    assert instant.log.first_position > last  # the index begins after the damage

    extent = _extent(log, instant)

    assert [(part["first"], part["last"]) for part in extent["unread"]] == [(first, last)]
    assert extent["first"]["position"] == first


async def test_a_restored_archive_file_is_no_longer_listed_as_unread(
    archived_cluster: ArchivedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archived_log(archived_cluster)
    first, last = await _flip_bit(archived_cluster, file_number=1)
    log = IndexedLog(
        *(archived_cluster.store, TEST_KEYS, archived_cluster.files), now_ms=archived_cluster.now_ms
    )
    damaged = await log.now()
    assert [(part.first_position, part.last_position) for part in log.unread.parts()] == [
        (first, last)
    ]
    monkeypatch.setattr("core.audit.indexed_log.FRESH_S", 0.0)
    await log.now()
    assert len(log.unread) == 1  # the part is read again after UNREAD_RECHECK_S

    monkeypatch.setattr("core.audit.indexed_log.UNREAD_RECHECK_S", 0.0)
    await log.now()
    assert len(log.unread) == 1
    await _flip_bit(archived_cluster, file_number=1)  # flip the same bit back
    restored = await log.now()
    assert _extent(log, restored)["unread"] == []
    assert restored.log.clock.events == len(await archived_cluster.replayed())
    assert restored.log.clock.events > damaged.log.clock.events


async def _flip_bit(cluster: ArchivedCluster, *, file_number: int) -> tuple[int, int]:
    """Flip a bit in the first block of an archive file; return the block's range of positions."""
    sealed = (await cluster.view()).sealed
    summary = sealed.summaries()[file_number]
    block = sealed.open(summary.link).trailer.blocks[0]
    path = cluster.directory / f"{summary.link.base}.segments"
    content = bytearray(path.read_bytes())
    content[block.offset + block.size // 2] ^= 0x10
    path.write_bytes(content)
    return block.first_position, block.last_position


def _extent(log: IndexedLog, instant: LogInstant, begin: str = "", end: str = "") -> dict[str, Any]:
    return log_extent(log, instant, cluster="test", buckets=10, window=(begin, end))


def test_undecodable_segments_have_no_events_and_are_listed_up_to_a_limit() -> None:
    unread = UnreadPartList()
    for _ in range(2):  # a console reads the same segments repeatedly
        for position in range(1, UNREAD_PARTS_LISTED_MAX + 3):
            assert unread.events_of(Segment(position, "node-a", position, b"\xff")) == []

    assert len(unread) == UNREAD_PARTS_LISTED_MAX + 2
    assert unread.unlisted == 2
    assert unread.parts()[0].why.startswith("the segment of writer node-a at revision 1 cannot")


async def test_a_bucket_begins_no_later_than_its_first_event(
    archived_cluster: ArchivedCluster,
) -> None:
    log = await archived_log(archived_cluster)
    instant = await log.now()
    extent = _extent(log, instant)
    replayed = await archived_cluster.replayed()
    assert extent["first"]["time"] == time_text(replayed[0].recorded_at_ms)
    buckets_with_events = [bucket for bucket in extent["density"] if bucket["events"]]
    assert len(buckets_with_events) > 3
    for bucket in buckets_with_events:
        after = next(event for event in replayed if event.position > bucket["position"])
        assert bucket["time"] <= time_text(after.recorded_at_ms)
    assert sum(bucket["events"] for bucket in buckets_with_events) == len(replayed)


async def test_a_window_counts_the_events_of_archived_files(
    archived_cluster: ArchivedCluster,
) -> None:
    log = await archived_log(archived_cluster)
    instant = await log.now()
    replayed = await archived_cluster.replayed()
    before_index = [event for event in replayed if event.position <= instant.log.first_position]
    begin = time_text(replayed[0].recorded_at_ms)
    end = time_text(before_index[-1].recorded_at_ms + 1)

    from_begin, up_to_index = _extent(log, instant, begin), _extent(log, instant, end=end)

    assert sum(bucket["events"] for bucket in from_begin["density"]) == len(replayed)
    assert sum(bucket["events"] for bucket in up_to_index["density"]) == len(before_index)
    for extent in from_begin, up_to_index:
        starts = [time_ms_of(bucket["time"], "time") for bucket in extent["density"]]
        assert starts[0] == replayed[0].recorded_at_ms
        lengths = [after - before for before, after in itertools.pairwise(starts)]
        assert max(lengths) - min(lengths) <= 1, "the buckets must have equal lengths"
        positions = [bucket["position"] for bucket in extent["density"]]
        assert positions[0] < replayed[0].position
        assert positions == sorted(positions)
