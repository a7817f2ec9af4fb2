"""The change listener restarts broken watches, and leaves excess changes to the scan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts, PodState
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import StoreUnavailable
from core.eventstore.memory import MemoryStore
from tests.support.engine_harness import eventually
from tests.support.node_harness import NodeHarness, pod, pool
from workflows.jobs.reclaim import change_listener
from workflows.jobs.reclaim.change_listener import ChangeListener, DeadlineCause
from workflows.jobs.reclaim.context import (
    Change,
    Observer,
    PodChange,
    ReclaimContext,
    Releases,
    ScanRequest,
)
from workflows.jobs.reclaim.records import StandalonePodFacts
from workflows.jobs.writers import ShardWriters
from workflows.model.errors import LimitExceeded

GONE = "it was deleted"
LOOK = "look soon"


class ScriptedChanges:
    """A source whose watch breaks a few times, then reports changes and stays open."""

    def __init__(self, node: NodeHarness, breaks: int, news: list[str]) -> None:
        self._real = StandalonePodFacts(node.store, node.keys)
        self._breaks = breaks
        self._news = news
        self.asked = 0

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterFacts:
        return await self._real.facts(ledger, claims_read)

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        return await self._real.deleted_nodes(nodes)

    async def changes(self) -> AsyncIterator[Change]:
        self.asked += 1
        if self.asked <= self._breaks:
            raise StoreUnavailable("the watch broke off")
        for name in self._news:
            if name == LOOK:
                yield ScanRequest("a StatefulSet is gone")
            else:
                yield PodChange(PodState("shop", name, f"uid-{name}"), GONE)
        await asyncio.Event().wait()


class ListenerHarness:
    """A listener on a real store, and the executions it has started."""

    def __init__(
        self, node: NodeHarness, source: ScriptedChanges, settings: ReclaimSettings
    ) -> None:
        self.begun: list[str] = []
        self.scans = 0
        self.gate = asyncio.Event()
        self.gate.set()
        releases = Releases(node.store, node.keys, ShardWriters(node.store, node.keys))
        means = ReclaimContext(node.store, node.keys, source, settings, Observer(), releases)
        self.listener = ChangeListener(means, self._begin, self._scan_now)

    async def _begin(self, one: ReclaimDeadline, origin: DeadlineCause) -> None:
        await self.gate.wait()
        self.begun.append(one.pod)

    async def _scan_now(self) -> None:
        self.scans += 1
        if self.scans == 1:
            raise LimitExceeded("it takes no more signals")


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore()) as found:
        await found.apply(pool("main", "10.6.0.10-10.6.0.40"))
        for number in range(4):
            await found.add(pod(f"web-{number}"))
        yield found


async def test_a_watch_that_breaks_off_begins_again_and_each_time_a_scan_is_asked_for(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "WATCH_PAUSE_S", 0.001)
    source = ScriptedChanges(node, breaks=3, news=["web-0"])
    harness = ListenerHarness(node, source, ReclaimSettings())
    work = asyncio.ensure_future(harness.listener.run())

    async def heard() -> bool:
        return harness.begun == ["web-0"]

    await eventually(heard)
    work.cancel()

    assert (harness.scans, source.asked, harness.listener.listening) == (4, 4, True)


async def test_what_no_pod_tells_asks_for_a_scan_and_listening_goes_on(node: NodeHarness) -> None:
    source = ScriptedChanges(node, breaks=0, news=[LOOK, "web-0"])
    harness = ListenerHarness(node, source, ReclaimSettings())
    work = asyncio.ensure_future(harness.listener.run())

    async def heard() -> bool:
        return harness.begun == ["web-0"]

    await eventually(heard)
    work.cancel()

    assert (harness.scans, harness.listener.received, source.asked) == (2, 1, 1)


async def test_news_without_room_is_left_to_the_scan_and_counted(node: NodeHarness) -> None:
    settings = ReclaimSettings(workers=1, queue_max=1, queue_wait_s=0.001)
    harness = ListenerHarness(
        node, ScriptedChanges(node, 0, [f"web-{number}" for number in range(4)]), settings
    )
    harness.gate.clear()
    work = asyncio.ensure_future(harness.listener.run())

    async def told() -> bool:
        return harness.listener.received == 4 and harness.listener.dropped > 0

    await eventually(told)
    harness.gate.set()

    async def begun() -> bool:
        return len(harness.begun) + harness.listener.dropped == 4

    await eventually(begun)
    work.cancel()

    assert harness.begun
