"""Two controllers' workers on a real etcd; the active one is killed in the middle of a chunk."""

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
from core.eventstore.memory import MemoryStore
from tests.support.engine_harness import eventually, within
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost
from workflows.jobs.reclaim.context import Observer
from workflows.jobs.reclaim.scan import SCAN_NOW, WORKFLOW_ID

LEAKS = 60
DIES_AT = 20


class Dying:
    """Stops the reclaimer at a chosen call; its worker does nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_work = asyncio.Event()
        self.calls = 0
        self.buried = False
        real = Releaser.reclaim

        async def reclaim(*args: Any) -> Released:
            self.calls += 1
            if self.calls > DIES_AT and not self.buried:
                self.at_work.set()
                await asyncio.Event().wait()
            return await real(*args)

        monkeypatch.setattr(Releaser, "reclaim", reclaim)


async def _leak(node: NodeHarness) -> None:
    await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
    await node.add(pod("alive"))
    for number in range(LEAKS):
        name = f"web-{number}"
        await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))
        await node.add(pod(name))
        await node.apply(DeleteRecord("Pod", "shop", name))


async def _play(store: KeyValueStore, dying: Dying) -> None:
    skew = [0.0]

    def later() -> float:
        return time.monotonic() + skew[0]

    async with NodeHarness(store) as node:
        await _leak(node)
        hosts = [
            JobHost(store, node.keys, name, observer=Observer(time.time, later))
            for name in ("one", "two")
        ]
        works = [asyncio.ensure_future(host.run()) for host in hosts]
        async with Client(store, node.keys) as client:

            async def looked() -> bool:
                found = await client.query(WORKFLOW_ID, "status", timeout_s=20)
                return bool(found["suspects"] == LEAKS)

            for host in hosts:
                await _is_ready(host)
            await eventually(lambda: _quietly(looked))
            skew[0] = 20.0
            await client.signal(WORKFLOW_ID, SCAN_NOW)
            await within(dying.at_work.wait())
            await _bury(store, hosts)
            dying.buried = True

            async def freed() -> bool:
                return len((await node.read_ledger()).claims) == 1

            await eventually(freed)
        for work in works:
            work.cancel()
        await asyncio.wait(works)
        await _judge(node)


async def _is_ready(host: JobHost) -> None:
    async def ready() -> bool:
        return bool(host.worker.shards)

    await eventually(ready)


async def _quietly(look: Any) -> bool:
    try:
        return bool(await look())
    except Exception:  # noqa: BLE001 - nobody has started it yet
        return False


async def _bury(store: KeyValueStore, hosts: list[JobHost]) -> None:
    """Kill the worker that owns the execution, as a crash does."""
    for host in hosts:
        term = host.worker.term
        assert term is not None
        if any(WORKFLOW_ID in shard.executions for shard in term.shards.values()):
            await host.worker.abandon()
            await store.revoke_lease(term.session.lease)
            return
    raise AssertionError("nobody owns the execution")


async def _judge(node: NodeHarness) -> None:
    released = [
        one.address
        for recorded in await node.log()
        if isinstance(recorded.event, AddressesReleased)
        for one in recorded.event.releases
    ]
    assert len(released) == len(set(released)) == LEAKS
    await check_everything(node)


async def test_a_kill_between_two_releases_doubles_and_loses_none_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying = Dying(monkeypatch)
    await _play(MemoryStore(), dying)

    assert dying.calls > LEAKS


@pytest.mark.etcd
async def test_a_kill_between_two_releases_doubles_and_loses_none_on_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = Dying(monkeypatch)
    with EtcdCluster(tmp_path) as cluster:
        store = EtcdStore(EtcdSettings(cluster.endpoints))
        try:
            await _play(store, dying)
        finally:
            await store.close()

    assert dying.calls > LEAKS
