"""Lists and the slider's extent over archive files that the newest index does not have."""

from __future__ import annotations

import itertools

from core.audit.indexed_log import IndexedLog
from core.eventstore.writer import unix_ms
from ops.console.events import EventConditions, events_after, parse_event_position
from ops.console.log_extent import log_extent
from ops.console.values import time_text
from tests.support.archived_cluster import KEYS, Add, ArchivedCluster, Remove


async def archived_log(cluster: ArchivedCluster) -> IndexedLog:
    """A log of several archive files with a clock that ticks, and an index of the last ones."""
    ticks = itertools.count(unix_ms(), 1_000)
    cluster.now_ms = lambda: next(ticks)
    await cluster.live([Add("node-a", f"web-{number}", 0) for number in range(4)])
    await cluster.live([Remove("node-a", f"web-{number}", 0) for number in range(3)])
    await cluster.seal(file_bytes_max=500)
    await cluster.live([Add("node-a", "late", 0)])
    return IndexedLog(
        cluster.store, KEYS, cluster.files, now_ms=cluster.now_ms, window_events_max=3
    )


async def test_events_after_a_position_go_on_beyond_the_end_of_an_archive_file(
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
    assert listed == [(event.position, event.place) for event in replayed]


async def test_the_part_of_the_slider_for_an_archive_file_begins_where_the_file_does(
    archived_cluster: ArchivedCluster,
) -> None:
    log = await archived_log(archived_cluster)
    instant = await log.now()
    extent = log_extent(log, instant, "test", 10, ("", ""))
    replayed = await archived_cluster.replayed()
    assert extent["first"]["time"] == time_text(replayed[0].recorded_at_ms)
    begun = [bucket for bucket in extent["density"] if bucket["events"]]
    assert len(begun) > 3
    for bucket in begun:
        after = next(event for event in replayed if event.position > bucket["position"])
        assert bucket["time"] <= time_text(after.recorded_at_ms)
    assert sum(bucket["events"] for bucket in begun) == len(replayed)
