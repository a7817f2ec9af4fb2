"""Without Kubernetes, a deleted record is evidence that a Pod is gone; a missing record is not.

A record stores the fields of a Pod or Node that a user applied with orbctl.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, ReadResult
from core.eventstore.log_reader import LOG_START, Cursor, LogReader
from core.eventstore.memory_store import MemoryStore
from core.eventstore.state_reader import read_ledger
from tests.support.engine_harness import eventually, within
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from workflows.jobs import record_lookup
from workflows.jobs.reclaim.reclaim_context import PodChange, ReclaimContext, observer_of
from workflows.jobs.reclaim.scan_activities import ReclaimActivities
from workflows.jobs.reclaim.scan_states import EMPTY_SCAN_STATE
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource
from workflows.jobs.shard_writers import Releases, ShardWriters

RECORD = RecordDefined("Pod", "shop", "web-0")
DELETE_RECORD = DeleteRecord("Pod", "shop", "web-0")
NODE_RECORD = RecordDefined("Node", "", "node-a")
DELETE_NODE_RECORD = DeleteRecord("Node", "", "node-a")


class StandaloneHarness(NamedTuple):
    """Two nodes, and a scan that reads the records of Pods and Nodes."""

    node: NodeHarness
    other: NodeHarness
    activities: ReclaimActivities
    facts: StandaloneReclaimFactsSource


@pytest.fixture
async def harness() -> AsyncIterator[StandaloneHarness]:
    store = MemoryStore()
    async with NodeHarness(store) as node, NodeHarness(store, "node-b") as other:
        await node.apply(pool("main", "10.6.0.10-10.6.0.40"))
        keys = Keys("test")
        facts = StandaloneReclaimFactsSource(store, keys)
        releases = Releases(store, keys, ShardWriters(store, keys))
        context = ReclaimContext(store, keys, facts, ReclaimSettings(), observer_of(), releases)

        async def start_execution(deadline: ReclaimDeadline) -> None:
            raise AssertionError(f"expected no deadline without Kubernetes, got {deadline}")

        yield StandaloneHarness(node, other, ReclaimActivities(context, start_execution), facts)
        await check_everything(node)


async def count_observed(harness: StandaloneHarness) -> int:
    """Run the first scan; return the number of Pods that it observes as gone."""
    return (await harness.activities.observe(EMPTY_SCAN_STATE, EMPTY_SCAN_STATE)).observed


async def test_a_pod_without_a_record_is_not_observed_as_gone(harness: StandaloneHarness) -> None:
    await harness.node.add(pod("web-0"))

    assert await count_observed(harness) == 0


async def test_a_pod_whose_record_was_deleted_is_observed_as_gone(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))
    await harness.node.add(pod("web-0"))
    assert await count_observed(harness) == 0

    await harness.node.apply(DELETE_RECORD)

    assert await count_observed(harness) == 1


async def test_a_pod_whose_record_is_applied_again_is_not_observed_as_gone(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))
    await harness.node.add(pod("web-0"))
    await harness.node.apply(DELETE_RECORD)
    assert await count_observed(harness) == 1

    await harness.node.apply(ApplyRecord(RECORD))

    assert await count_observed(harness) == 0


async def test_a_pod_that_claims_after_the_deletion_is_not_observed_as_gone(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))
    await harness.node.apply(DELETE_RECORD)
    await harness.node.add(pod("web-0"))

    assert await count_observed(harness) == 0


async def test_a_pod_with_a_fixed_address_is_not_observed_as_gone(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))
    await harness.node.add(pod("web-0", fixed="statefulset"))
    await harness.node.apply(DELETE_RECORD)

    assert await count_observed(harness) == 0


async def test_the_reason_for_an_unknown_node_names_the_node(
    harness: StandaloneHarness,
) -> None:
    ledger = await read_ledger(harness.node.store, harness.node.keys)
    facts = await harness.facts.facts(ledger, Moment(unix_s=1.0, observer="test", steady_s=1.0))

    why = "standalone mode does not know the state of node node-a"
    assert facts.node("node-a") == MissingOwner(certain=False, why=why)


async def test_only_the_latest_deletions_are_evidence(
    harness: StandaloneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_lookup, "DELETIONS_MAX", 1)
    await harness.node.apply(ApplyRecord(RECORD), ApplyRecord(RECORD._replace(name="web-1")))
    await harness.node.add(pod("web-0"))
    await harness.node.apply(DELETE_RECORD, DELETE_RECORD._replace(name="web-1"))

    assert await count_observed(harness) == 0


async def test_pods_of_a_deleted_node_are_observed_as_gone_unless_the_address_is_fixed(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(NODE_RECORD))
    await harness.node.add(pod("web-0"))
    await harness.other.add(pod("web-1"))
    await harness.node.add(pod("db-0", fixed="statefulset"))
    assert await count_observed(harness) == 0

    await harness.node.apply(DELETE_NODE_RECORD)
    assert await count_observed(harness) == 1
    await harness.node.apply(ApplyRecord(NODE_RECORD))

    assert await count_observed(harness) == 0


async def test_a_pod_of_a_deleted_node_is_gone_despite_an_older_deletion(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(NODE_RECORD), ApplyRecord(RECORD))
    await harness.node.apply(DELETE_RECORD)
    await harness.node.add(pod("web-0"))
    assert await count_observed(harness) == 0

    await harness.node.apply(DELETE_NODE_RECORD)

    assert await count_observed(harness) == 1


async def test_a_pod_that_claims_after_both_deletions_is_not_observed_as_gone(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(NODE_RECORD), ApplyRecord(RECORD))
    await harness.node.apply(DELETE_RECORD, DELETE_NODE_RECORD)
    await harness.node.add(pod("web-0"))

    assert await count_observed(harness) == 0


async def changes_for(
    harness: StandaloneHarness, *commands: ApplyRecord | DeleteRecord
) -> list[PodChange]:
    """The changes that the source reports between the marker Pods ``begin`` and ``end``."""
    for name in ("begin", "end"):
        await harness.other.add(pod(name))
    arriving = harness.facts.changes()
    first = asyncio.ensure_future(anext(arriving))

    async def is_listening() -> bool:
        record = RECORD._replace(name="begin")
        await harness.other.apply(ApplyRecord(record), DELETE_RECORD._replace(name="begin"))
        return first.done()

    await eventually(is_listening)
    end = RECORD._replace(name="end")
    await harness.node.apply(*commands, ApplyRecord(end), DELETE_RECORD._replace(name="end"))
    changes = [await first]
    while changes[-1].pod.name != "end":
        changes.append(await within(anext(arriving)))
    return [change for change in changes if change.pod.name not in ("begin", "end")]


async def test_a_deleted_record_is_reported_as_a_deletion_of_its_pod(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))
    endpoint = (await harness.node.add(pod("web-0"))).endpoint

    (change,) = await changes_for(harness, DELETE_RECORD)

    assert (change.pod.name, change.pod.uid, change.pod.node) == ("web-0", endpoint.uid, "node-a")
    assert "deleted the record of Pod shop/web-0" in change.deletion_report
    assert change.trigger


async def test_a_deleted_node_is_reported_as_a_deletion_of_each_pod_on_it(
    harness: StandaloneHarness,
) -> None:
    for name, node in (("web-0", harness.node), ("web-1", harness.other), ("web-2", harness.node)):
        await node.add(pod(name))
    await harness.node.apply(ApplyRecord(NODE_RECORD))

    changes = await changes_for(harness, DELETE_NODE_RECORD)

    assert {change.pod.name for change in changes} == {"web-0", "web-2"}
    assert all("deleted the record of Node node-a" in change.deletion_report for change in changes)


async def test_applied_records_and_pods_without_addresses_are_not_reported(
    harness: StandaloneHarness,
) -> None:
    await harness.node.apply(ApplyRecord(RECORD))

    assert (
        await changes_for(harness, ApplyRecord(NODE_RECORD), DELETE_RECORD, DELETE_NODE_RECORD)
        == []
    )


class CountingStore(MemoryStore):
    """A store that counts the reads that return all endpoints at once."""

    reads_of_all_endpoints = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads_of_all_endpoints += Get(*Keys("test").range_of("endpoint")) in gets
        return await super().read(gets, revision=revision)


async def test_all_endpoints_are_read_once_if_several_node_records_are_deleted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def from_the_start(_: LogReader) -> Cursor:
        return LOG_START

    monkeypatch.setattr(LogReader, "cursor_now", from_the_start)
    store, names = CountingStore(), ("node-a", "node-b", "node-c")
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(NodeHarness(store, name)) for name in names]
        await nodes[0].apply(pool("main", "10.6.0.10-10.6.0.40"))
        for node in nodes:
            await node.view.freshen()
            await nodes[0].apply(ApplyRecord(RecordDefined("Node", "", node.name)))
            await node.add(pod(f"web-{node.name}"))
        await nodes[0].apply(*(DeleteRecord("Node", "", name) for name in names))
    changes = StandaloneReclaimFactsSource(store, Keys("test")).changes()

    reported_changes = [await within(anext(changes)) for _ in names]

    assert [change.pod.name for change in reported_changes] == [f"web-{name}" for name in names]
    assert store.reads_of_all_endpoints == 1
