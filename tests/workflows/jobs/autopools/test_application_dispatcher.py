"""When the dispatcher wakes a waiting application, and when it forgets a wait.

It forgets a wait when the lease of the report ends, and compares the application again, because
the execution has probably been terminated. With ``make_web_wait``, ``web`` waits because its pool
cannot shrink while both addresses are in use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest

from core.allocation.pool_requests import PoolRequests, Problem, ReconcileReport, read_report
from core.domain.addresses.ip_address import parse_address
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.configuration.commands import ApplySubnet, LiftQuarantine, QuarantineAddress
from core.domain.model import Subnet
from core.errors import Compacted
from core.eventstore.kv import Get, IsWhole, KeyValue, WatchBatch
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import eventually
from tests.support.node_harness import check_everything
from tests.workflows.jobs.autopools.autopool_harness import AutoPoolHarness
from tests.workflows.jobs.autopools.scripted_applications import key_of
from workflows.engine.client.client import Client
from workflows.jobs.autopools.application import workflow_id

NET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))
WEB = key_of("web")
GONE = key_of("gone")


class WatchedStore(MemoryStore):
    """A store that notes the first keys of watches, and of watches that raised Compacted."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[bytes] = set()
        self.compacted: set[bytes] = set()

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        starts = {start for start, _ in ranges}
        try:
            async for batch in super().watch(ranges, after=after, is_whole=is_whole):
                self.watched |= starts
                yield batch
        except Compacted:
            self.watched |= starts
            self.compacted |= starts
            raise


@pytest.fixture
def watched_store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
async def harness(watched_store: WatchedStore) -> AsyncIterator[AutoPoolHarness]:
    harness = AutoPoolHarness(watched_store)
    await harness.open(controllers=0)
    await harness.node.apply(ApplySubnet(NET))
    await harness.start_controller()
    yield harness
    await harness.close()
    await check_everything(harness.node)


async def find_report(harness: AutoPoolHarness, key: ApplicationKey) -> KeyValue | None:
    get = Get(harness.node.keys.application_view(str(key)))
    kvs = (await harness.store.read([get])).ranges[0].kvs
    return kvs[0] if kvs else None


async def is_web_waiting(harness: AutoPoolHarness) -> bool:
    stored = await find_report(harness, WEB)
    report = read_report(stored.value) if stored else None
    return report is not None and any(problem.again for problem in report.problems)


async def make_web_wait(harness: AutoPoolHarness) -> None:
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    await harness.pods_of("web", "2")
    await harness.application("web", size="1", subnet="net")
    await eventually(partial(is_web_waiting, harness))


async def end_lease_of_report(
    harness: AutoPoolHarness, store: WatchedStore, key: ApplicationKey
) -> None:
    """End the lease after the dispatcher has read the report."""

    async def is_read() -> bool:
        return store.watches_are_current

    await eventually(is_read)
    report = await find_report(harness, key)
    assert report is not None
    await store.revoke_lease(report.lease)


async def test_a_watch_for_releases_ignores_the_position_of_an_expired_report(
    harness: AutoPoolHarness, watched_store: WatchedStore
) -> None:
    position = (await watched_store.read([])).revision
    problem = Problem("", "", "the API server is away", again=True)
    requests = PoolRequests(watched_store, harness.node.keys)
    await requests.report(ReconcileReport(position, workflow_id(GONE), GONE, (problem,)))
    await end_lease_of_report(harness, watched_store, GONE)
    await watched_store.compact((await watched_store.read([])).revision)
    await make_web_wait(harness)
    first_address = harness.node.keys.ip(*parse_address("10.7.0.10"))

    async def is_watched() -> bool:
        return first_address in watched_store.watched

    await eventually(is_watched)
    assert first_address not in watched_store.compacted


async def test_an_application_reconciles_again_after_its_report_expires(
    harness: AutoPoolHarness, watched_store: WatchedStore
) -> None:
    await make_web_wait(harness)
    async with Client(watched_store, harness.node.keys) as client:
        await client.terminate(workflow_id(WEB))
    await end_lease_of_report(harness, watched_store, WEB)

    assert await eventually(partial(find_report, harness, WEB))


async def test_a_lifted_quarantine_wakes_an_application_that_waits_for_its_subnet(
    harness: AutoPoolHarness,
) -> None:
    await harness.node.apply(QuarantineAddress("10.7.0.159", reason="a conflicting host"))
    await harness.application("web", subnet="net", number="150")
    await eventually(partial(is_web_waiting, harness))

    await harness.node.apply(LiftQuarantine("10.7.0.159"))

    async def has_pool() -> bool:
        return bool((await harness.node.read_ledger()).pools)

    assert await eventually(has_pool)
