"""Finds the modules that run when the addresses of one deleted Pod are reclaimed.

.venv/bin/python -m scripts.reclaim_modules

The jobs of a controller run in this process on the memory store. A product module counts if one of
its functions runs between the deletion of the Pod's record and the deletion of the Pod's endpoint.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from types import FrameType
from typing import Final

from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.eventstore.kv import Get
from core.eventstore.memory_store import MemoryStore
from core.process.supervision import Supervisor
from core.projections.configuration_view import VIEW_TASK
from scripts.add_path import product_module
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool
from workflows.engine.store.keys import shard_of
from workflows.jobs.job_host import JobHost, JobSettings

FIRST_POD: Final = "first"
WITHOUT_AUTO_POOLS: Final = JobSettings(auto_pools=AutoPoolSettings(enabled=False))
RECLAIM_S_MAX: Final = 60.0
RETRY_S: Final = 0.2
"""The reclaim job misses the first deletion of a record if the job starts later. So the record is
created and deleted again after this time."""


def measure_reclaim() -> set[str]:
    """Reclaim two Pods; return the modules that run for the second Pod."""
    return asyncio.run(_measure())


async def _measure() -> set[str]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
        supervisor = Supervisor()
        host = JobHost(
            node.store, node.keys, "controller", WITHOUT_AUTO_POOLS, supervisor=supervisor
        )
        tasks = [asyncio.ensure_future(host.run()), asyncio.ensure_future(host.lead())]
        try:
            # The first reclaim imports modules, starts the jobs and opens the writer of the shard.
            await _reclaim(node, FIRST_POD)
            name = _name_in_the_same_shard()
            await _create(node, name)
            # A running view would process the record's deletion, and its modules would count.
            await node.view.close()
            await supervisor.end(VIEW_TASK)
            return await _modules_of_reclaim(node, name)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _name_in_the_same_shard() -> str:
    names = (f"second-{number}" for number in itertools.count())
    return next(name for name in names if _shard_of(name) == _shard_of(FIRST_POD))


def _shard_of(name: str) -> int:
    return shard_of(f"reclaim/shop/{name}/{pod(name).uid}")


async def _modules_of_reclaim(node: NodeHarness, name: str) -> set[str]:
    """Delete the Pod's record; return the modules that run until its endpoint is deleted."""
    modules: set[str] = set()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        module = product_module(frame) if event == "call" else None
        if module is not None:
            modules.add(module)

    await node.configurator.apply(DeleteRecord("Pod", "shop", name), TEST_CAUSE)
    sys.setprofile(on_event)
    try:
        await _wait_until_free(node, name)
    finally:
        sys.setprofile(None)
    return modules


async def _create(node: NodeHarness, name: str) -> None:
    await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))
    await node.add(pod(name))


async def _reclaim(node: NodeHarness, name: str) -> None:
    await _create(node, name)
    async with asyncio.timeout(RECLAIM_S_MAX):
        while True:
            await node.apply(DeleteRecord("Pod", "shop", name))
            try:
                async with asyncio.timeout(RETRY_S):
                    return await _wait_until_free(node, name)
            except TimeoutError:
                await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))


async def _wait_until_free(node: NodeHarness, name: str) -> None:
    """Wait until the Pod has no endpoint. The wait itself runs only modules of the store."""
    key = node.keys.endpoint("shop", name)
    result = await node.store.read([Get(key)])
    if not result.ranges[0].kvs:
        return
    async with asyncio.timeout(RECLAIM_S_MAX):
        async for batch in node.store.watch([(key, key + b"\0")], after=result.revision):
            if any(change.value is None for change in batch.changes):
                return


def main() -> None:
    """Print the modules and their number."""
    modules = measure_reclaim()
    print("".join(f"{module}\n" for module in sorted(modules)), end="")
    print(f"{len(modules):6}  modules touched by the reclaim of one deleted Pod")


if __name__ == "__main__":
    main()
