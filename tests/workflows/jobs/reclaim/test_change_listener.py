"""The change listener starts a reclaim execution for each deleted Pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from core.domain.evolution import Ledger
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.reclaim.evidence import ClusterLookup, Moment, PodState
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import StoreUnavailable
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import eventually
from tests.support.node_harness import NodeHarness, pod, pool
from workflows.jobs.reclaim import pod as pod_module
from workflows.jobs.reclaim.pod import ChangeListener, DeadlineCause
from workflows.jobs.reclaim.reclaim_context import (
    Change,
    PodChange,
    ReclaimContext,
    ScanRequest,
    observer_of,
)
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource
from workflows.jobs.shard_writers import Releases, ShardWriters
from workflows.model.errors import LimitExceeded

GONE = "it was deleted"
SCAN_REQUEST = "scan-request"
"""The name for which ``ScriptedChanges`` yields a scan request."""


class ScriptedChanges:
    """A source whose watch fails ``failures`` times, then reports the Pods ``names`` as deleted."""

    def __init__(self, node: NodeHarness, failures: int, names: list[str]) -> None:
        self._real = StandaloneReclaimFactsSource(node.store, node.keys)
        self._failures = failures
        self._names = names
        self.watches = 0

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        return await self._real.facts(ledger, claims_read)

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        return await self._real.deleted_nodes(nodes)

    async def changes(self) -> AsyncIterator[Change]:
        self.watches += 1
        if self.watches <= self._failures:
            raise StoreUnavailable("the watch failed")
        for name in self._names:
            if name == SCAN_REQUEST:
                yield ScanRequest("a StatefulSet is gone")
            else:
                yield PodChange(PodState("shop", name, f"uid-{name}"), GONE)
        await asyncio.Event().wait()


class ListenerHarness:
    """A listener on a memory store. The first scan request fails.

    The start of an execution waits until ``may_start`` is set.
    """

    def __init__(
        self, node: NodeHarness, source: ScriptedChanges, settings: ReclaimSettings
    ) -> None:
        self.started: list[str] = []
        self.scans = 0
        self.may_start = asyncio.Event()
        self.may_start.set()
        releases = Releases(node.store, node.keys, ShardWriters(node.store, node.keys))
        context = ReclaimContext(node.store, node.keys, source, settings, observer_of(), releases)
        self.listener = ChangeListener(context, self._start, self._scan_now)

    async def _start(self, deadline: ReclaimDeadline, origin: DeadlineCause) -> None:
        await self.may_start.wait()
        self.started.append(deadline.pod)

    async def _scan_now(self) -> None:
        self.scans += 1
        if self.scans == 1:
            raise LimitExceeded("the inbox of the scan is full")


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.40"))
        for number in range(4):
            await node.add(pod(f"web-{number}"))
        yield node


async def test_a_failed_watch_starts_again_and_each_start_requests_a_scan(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_module, "WATCH_PAUSE_S", 0.001)
    source = ScriptedChanges(node, failures=3, names=["web-0"])
    harness = ListenerHarness(node, source, ReclaimSettings())
    work = asyncio.ensure_future(harness.listener.run())

    async def is_started() -> bool:
        return harness.started == ["web-0"]

    await eventually(is_started)
    work.cancel()

    assert (harness.scans, source.watches, harness.listener.listening) == (4, 4, True)


async def test_a_scan_request_of_the_source_requests_a_scan_and_the_watch_continues(
    node: NodeHarness,
) -> None:
    source = ScriptedChanges(node, failures=0, names=[SCAN_REQUEST, "web-0"])
    harness = ListenerHarness(node, source, ReclaimSettings())
    work = asyncio.ensure_future(harness.listener.run())

    async def is_started() -> bool:
        return harness.started == ["web-0"]

    await eventually(is_started)
    work.cancel()

    # One scan for the start of the watch, and one for the scan request.
    assert (harness.scans, harness.listener.received, source.watches) == (2, 1, 1)


async def test_changes_are_dropped_and_counted_while_the_queue_is_full(node: NodeHarness) -> None:
    settings = ReclaimSettings(workers=1, queue_max=1, queue_wait_s=0.001)
    source = ScriptedChanges(node, failures=0, names=[f"web-{number}" for number in range(4)])
    harness = ListenerHarness(node, source, settings)
    harness.may_start.clear()
    work = asyncio.ensure_future(harness.listener.run())

    async def has_dropped_changes() -> bool:
        return harness.listener.received == 4 and harness.listener.dropped > 0

    await eventually(has_dropped_changes)
    harness.may_start.set()

    async def all_are_handled() -> bool:
        return len(harness.started) + harness.listener.dropped == 4

    await eventually(all_are_handled)
    work.cancel()

    assert harness.started, "changes that fitted into the queue are not dropped"
