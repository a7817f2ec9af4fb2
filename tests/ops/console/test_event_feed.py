"""The feed of events announces lost events as a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from core.audit import log_index
from core.audit.indexed_log import IndexedLog, LogInstant
from core.domain.events import Recorded
from core.eventstore.kv import IsWhole, WatchBatch
from ops.console.event_stream import BACKLOG_MAX, EventFeed, EventReader, Gap
from ops.console.events import EventPosition
from tests.ops.console.conftest import Console
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, CniAdd
from tests.support.deadlines import DEADLINE_S, until
from tests.support.faulty_store import FaultyStore
from tests.support.node_harness import pod, pool

pytestmark = pytest.mark.etcd

BEGIN = EventPosition(0, 0)


class BreakingStore(FaultyStore):
    """A FaultyStore that also fails watches while unavailable."""

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncGenerator[WatchBatch, None]:
        async for batch in self.store.watch(ranges, after=after, is_whole=is_whole):
            self._require_available()
            yield batch


class BusyLog(IndexedLog):
    """A log that calls ``meanwhile`` whenever an instant is read."""

    def __init__(self, cluster: ArchivedCluster) -> None:
        super().__init__(cluster.store, TEST_KEYS, cluster.files)
        self.meanwhile: Callable[[], None] = lambda: None

    async def at_position(self, position: int) -> LogInstant:
        self.meanwhile()
        return await super().at_position(position)


async def test_a_second_reader_gets_the_same_events_after_its_position(console: Console) -> None:
    feed = console.source.feed
    last_position = (await console.get("/log"))["last"]["position"]
    async with feed.open(None) as first_reader:
        await console.cluster.execute([CniAdd("node-a", "late")])
        events = await first_reader.next_events(DEADLINE_S)
        after_last = EventPosition(last_position, 2**31)  # greater than every index in a segment
        async with feed.open(after_last) as second_reader:
            assert second_reader.take()[: len(events)] == events != []


async def test_a_reader_gets_a_gap_if_its_backlog_overflows_while_it_opens(
    cluster: ArchivedCluster,
) -> None:
    log = BusyLog(cluster)
    feed = EventFeed(cluster.store, TEST_KEYS, log)
    async with feed.open(BEGIN) as reader:
        logged = reader.take()

    def burst() -> None:
        for _ in range(BACKLOG_MAX + 1):
            feed._publish(Gap(1))

    log.meanwhile = burst
    async with feed.open(BEGIN) as reader:
        events = reader.take()
        assert reader.is_open
    await feed.close()
    assert all(isinstance(event, Recorded) for event in logged)
    # The last gap has the position after which the feed's watch began.
    assert events == [*logged, *[Gap(1)] * BACKLOG_MAX, Gap(feed._read_up_to)]


async def test_a_reader_gets_a_gap_if_missed_events_of_a_segment_are_not_in_memory(
    cluster: ArchivedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.node.apply(pool("more", "10.6.1.1-10.6.1.9"))
    await cluster.node.apply(pool("more-six", "fd00:6::10-fd00:6::19"))
    pods = [pod(f"late-{number}") for number in range(4)]
    for facts in pods:
        await cluster.node.add(facts)
    await asyncio.gather(*map(cluster.node.delete, pods))  # the events share a segment
    events = await cluster.replayed()
    first = next(i for i, event in enumerate(events) if event.index_in_segment == 2)
    position, in_memory = events[first].position, events[first:]
    monkeypatch.setattr(log_index, "RECENT_EVENTS", len(in_memory))
    feed = EventFeed(cluster.store, TEST_KEYS, IndexedLog(cluster.store, TEST_KEYS, cluster.files))

    async with feed.open(EventPosition(position, 0)) as reader:
        assert reader.take() == [Gap(position - 1), *in_memory]
    async with feed.open(EventPosition(position, 1)) as reader:
        assert reader.take() == in_memory
    await feed.close()


async def test_after_an_outage_a_gap_has_the_position_after_which_the_new_watch_begins(
    cluster: ArchivedCluster,
) -> None:
    store = BreakingStore(cluster.store)
    feed = EventFeed(store, TEST_KEYS, IndexedLog(store, TEST_KEYS, cluster.files))
    async with feed.open(None) as reader:
        store.is_unavailable = True
        await cluster.execute([CniAdd("node-a", "late")])
        await until(lambda: not feed._following.is_set())
        assert reader.take() == []
        store.is_unavailable = False
        (gap,) = await reader.next_events(DEADLINE_S)
        assert gap == Gap(feed._read_up_to)
        async with feed.open(BEGIN) as second_reader:
            (*_, newest) = second_reader.take()
    await feed.close()
    assert isinstance(newest, Recorded)
    assert newest.position <= feed._read_up_to


async def test_an_undecodable_segment_is_a_gap_before_the_next_events(
    cluster: ArchivedCluster,
) -> None:
    log = IndexedLog(cluster.store, TEST_KEYS, cluster.files)
    feed = EventFeed(cluster.store, TEST_KEYS, log)
    async with feed.open(None) as reader:
        position = await cluster.commit_undecodable_segment()
        assert await reader.next_events(DEADLINE_S) == [Gap(position)]
        await cluster.execute([CniAdd("node-a", "late")])
        (event, *_) = await reader.next_events(DEADLINE_S)
    await feed.close()
    assert isinstance(event, Recorded)
    assert [part.first_position for part in log.unread.parts()] == [position]


async def test_the_id_of_a_gap_message_is_the_gaps_position(console: Console) -> None:
    feed = console.source.feed
    async with console.client.get(f"{console.url}/api/v1/events/stream") as response:
        assert await response.content.readuntil(b"\n\n") == b":\n\n"
        feed._publish(Gap(7))
        async with asyncio.timeout(DEADLINE_S):
            message = await response.content.readuntil(b"\n\n")
    assert message == b"id: 7\nevent: gap\ndata: {}\n\n"


def test_missed_events_may_exceed_the_backlog_of_a_new_reader() -> None:
    reader = EventReader()
    reader.begin([Gap(1)] * (BACKLOG_MAX + 1))
    assert reader.is_open
    assert len(reader.take()) == BACKLOG_MAX + 1


def test_a_reader_is_closed_when_its_backlog_is_full() -> None:
    reader = EventReader()
    for _ in range(BACKLOG_MAX + 1):
        reader.put(Gap(1))
    assert not reader.is_open
    assert len(reader.take()) == BACKLOG_MAX
