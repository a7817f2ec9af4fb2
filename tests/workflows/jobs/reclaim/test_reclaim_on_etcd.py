"""The controller that runs the reclaim scan is killed; a second controller continues the scan."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from core.allocation.releaser import Released, Releaser
from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import AddressesReleased, RecordDefined
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import eventually, within
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost
from workflows.jobs.reclaim.reclaim_context import observer_of
from workflows.jobs.reclaim.scan import SCAN_NOW, WORKFLOW_ID

LEAKS = 60
RELEASES_BEFORE_KILL = 20


class BlockingReleaser:
    """Until ``is_open`` is set, releases after the first ``RELEASES_BEFORE_KILL`` never end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocked = asyncio.Event()
        self.calls = 0
        self.is_open = False
        reclaim_step = Releaser.reclaim

        async def reclaim(*args: Any) -> Released:
            self.calls += 1
            if self.calls > RELEASES_BEFORE_KILL and not self.is_open:
                self.blocked.set()
                await asyncio.Event().wait()
            return await reclaim_step(*args)

        monkeypatch.setattr(Releaser, "reclaim", reclaim)


async def _leak(node: NodeHarness) -> None:
    """Add the Pod alive. Add and delete ``LEAKS`` further Pods, without a DEL."""
    await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
    await node.add(pod("alive"))
    for number in range(LEAKS):
        name = f"web-{number}"
        await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))
        await node.add(pod(name))
        await node.apply(DeleteRecord("Pod", "shop", name))


async def _run_with_a_kill(store: KeyValueStore, blocker: BlockingReleaser) -> None:
    offset_s = [0.0]

    def monotonic() -> float:
        return time.monotonic() + offset_s[0]

    async with NodeHarness(store) as node:
        await _leak(node)
        hosts = [
            JobHost(store, node.keys, name, observer=observer_of(time.time, monotonic))
            for name in ("one", "two")
        ]
        tasks = [asyncio.ensure_future(host.run()) for host in hosts]
        async with Client(store, node.keys) as client:

            async def all_are_observed() -> bool:
                status = await client.query(WORKFLOW_ID, "status", timeout_s=20)
                # ``suspects``: Pods that were observed as gone only once.
                return bool(status["suspects"] == LEAKS)

            for host in hosts:
                await _wait_until_ready(host)
            await eventually(lambda: _or_false(all_are_observed))
            offset_s[0] = 20.0  # the gap between two observations has passed
            await client.signal(WORKFLOW_ID, SCAN_NOW)
            await within(blocker.blocked.wait())
            await _kill_owner_of_the_scan(store, hosts)
            blocker.is_open = True

            async def all_are_released() -> bool:
                return len((await node.read_ledger()).claims) == 1  # that of the Pod ``alive``

            await eventually(all_are_released)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await _check_releases(node)


async def _wait_until_ready(host: JobHost) -> None:
    async def has_shards() -> bool:
        return bool(host.worker.shards)

    await eventually(has_shards)


async def _or_false(condition: Any) -> bool:
    try:
        return bool(await condition())
    except Exception:  # noqa: BLE001 - the execution does not exist yet
        return False


async def _kill_owner_of_the_scan(store: KeyValueStore, hosts: list[JobHost]) -> None:
    for host in hosts:
        term = host.worker.term
        assert term is not None
        if any(WORKFLOW_ID in shard.executions for shard in term.shards.values()):
            await host.worker.abandon()
            await store.revoke_lease(term.session.lease)
            return
    raise AssertionError("no worker owns the execution")


async def _check_releases(node: NodeHarness) -> None:
    released = [
        release.address
        for recorded in await node.log()
        if isinstance(recorded.event, AddressesReleased)
        for release in recorded.event.releases
    ]
    assert len(released) == len(set(released)) == LEAKS
    await check_everything(node)


async def test_every_address_is_released_once_after_a_kill_between_two_releases_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocker = BlockingReleaser(monkeypatch)
    await _run_with_a_kill(MemoryStore(), blocker)

    assert blocker.calls > LEAKS


@pytest.mark.etcd
async def test_every_address_is_released_once_after_a_kill_between_two_releases_on_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = BlockingReleaser(monkeypatch)
    with EtcdCluster(tmp_path) as cluster:
        store = EtcdStore(EtcdSettings(cluster.endpoints))
        try:
            await _run_with_a_kill(store, blocker)
        finally:
            await store.close()

    assert blocker.calls > LEAKS
