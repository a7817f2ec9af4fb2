"""A controller continues despite an unreadable value of any kind, and reports its key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from core.domain.configuration.commands import ApplyReservation
from core.domain.model import Reservation
from core.eventstore.etcd import EtcdSettings
from core.eventstore.keys import key_text, range_end
from core.eventstore.kv import Get, KeyValueStore, Put
from core.projections import projector
from ops.controller.controller import Controller
from ops.controller.settings import ControllerSettings
from ops.kinds import ALL_KINDS
from ops.settings import ClusterSettings
from tests.containment.samples import FAULT_CASES, Case, case_id
from tests.support.faulty_store import UnclosedMemoryStore
from tests.support.node_harness import NodeHarness, pod, pool
from workflows.engine.store.keys import WorkflowKeys

CLUSTER: Final = "test"
KINDS_READ_AT_START: Final = (
    *("pool", "subnet", "reservation", "quarantine", "record", "claim", "endpoint"),
    *("writer head", "need", "application view"),
)
"""A starting controller must report unreadable keys of these kinds."""


@asynccontextmanager
async def running_controller(store: KeyValueStore, directory: Path) -> AsyncIterator[Controller]:
    cluster = ClusterSettings(EtcdSettings(("127.0.0.1:1",)), CLUSTER, directory / "archive")
    settings = ControllerSettings(
        name="c-1",
        cluster=cluster,
        listen_address="127.0.0.1",
        health_port=0,
        metrics_enabled=True,
        metrics_port=0,
        lease_ttl_s=60,
    )
    controller, stop = Controller(settings, store), asyncio.Event()
    controller.publisher._period_s = 0.01
    running = asyncio.create_task(controller.run(stop))
    try:
        yield controller
        assert not running.done(), running.exception()
    finally:
        stop.set()
        await running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.005)


async def published_claims(controller: Controller) -> int:
    """Return the published number of claims of pool "lan"; -1 if no number is published."""
    tally = controller.projector.projection.tallies.get("lan")
    is_published = controller.publisher.published and not controller.publisher.unpublished
    return tally.counts.claimed if tally is not None and is_published else -1


@pytest.mark.parametrize("case", FAULT_CASES, ids=case_id)
async def test_a_controller_publishes_readable_values_and_reports_unreadable_keys(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "REBUILD_PAUSE_S", 0.01)
    store = UnclosedMemoryStore()
    async with NodeHarness(store) as node:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        async with running_controller(store, tmp_path) as controller:
            await until(lambda: _equals(published_claims(controller), 0))
            key = case.key(node.keys)
            if case.kind.name != "segment":  # a segment is never written twice
                await store.commit([], [Put(key, case.readable_value)])
            await store.commit([], [Put(key, case.value)])
            await node.add(pod("web-0"))
            await until(lambda: _equals(published_claims(controller), 1))
            if case.kind.name == "segment":
                await until(lambda: _reports(controller, case.name(node.keys)))
            ready = controller.health.ready()
            assert not [check for check in ready if check.name == "projection" and check.fault]

        # Start a controller while the unreadable value exists.
        async with running_controller(store, tmp_path) as controller:
            await node.add(pod("web-1"))
            await until(lambda: _equals(published_claims(controller), 2))
            if case.kind.name in KINDS_READ_AT_START:
                await until(lambda: _reports(controller, case.name(node.keys)))
                assert f'contained_faults{{kind="{case.kind.name}"' in _metrics(controller)


async def _equals(value: Awaitable[int], expected: int) -> bool:
    return await value == expected


async def _reports(controller: Controller, key_name: str) -> bool:
    return key_name in {fault.key for fault in controller.projector.faults}


def _metrics(controller: Controller) -> str:
    assert controller._metrics is not None
    return controller._metrics.scrape().body.decode()


@pytest.mark.parametrize("workflow_id", ["archive", "reclaim"])
async def test_an_unreadable_execution_of_one_job_does_not_stop_other_jobs(
    workflow_id: str, tmp_path: Path
) -> None:
    store = UnclosedMemoryStore()
    async with NodeHarness(store) as node:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        key = WorkflowKeys(node.keys).open(workflow_id)
        await store.commit([], [Put(key, b"\xffgarbage")])
        async with running_controller(store, tmp_path) as controller:
            name = key_text(node.keys, key)
            await until(lambda: _reports(controller, name))
            (other_id,) = {"archive", "reclaim"} - {workflow_id}
            other = WorkflowKeys(node.keys).open(other_id)
            await until(lambda: _exists(store, other))
            await node.add(pod("web-0"))
            await until(lambda: _equals(published_claims(controller), 1))
            await until(lambda: _worker_runs(controller))
            assert controller.election.term is not None


async def test_every_key_of_a_running_cluster_is_of_one_known_kind(tmp_path: Path) -> None:
    store = UnclosedMemoryStore()
    async with NodeHarness(store) as node, running_controller(store, tmp_path) as controller:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        await node.apply(ApplyReservation(Reservation("dns", 4, ("10.6.0.9",))))
        await node.add(pod("web-0"))
        await node.delete(pod("web-0"))
        await node.add(pod("web-1"))
        await until(lambda: _equals(published_claims(controller), 1))
        await until(lambda: _worker_runs(controller))
        key_values = (
            (await store.read([Get(node.keys.root, range_end(node.keys.root))])).ranges[0].kvs
        )

        assert len(key_values) > 20
        for kv in key_values:
            ranges = ((kind, *kind.range(node.keys)) for kind in ALL_KINDS)
            kinds = [kind for kind, start, end in ranges if start <= kv.key < end]
            assert len(kinds) == 1, kv.key
            kinds[0].decode(node.keys, kv.key, kv.value)


async def _exists(store: KeyValueStore, key: bytes) -> bool:
    return bool((await store.read([Get(key)])).ranges[0].kvs)


async def _worker_runs(controller: Controller) -> bool:
    return controller.jobs.worker.is_working
