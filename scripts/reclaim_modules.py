"""The modules that run when the addresses of one deleted Pod are reclaimed, on the memory store.

.venv/bin/python -m scripts.reclaim_modules      each module, then their number

A controller's jobs run in this process, without automatic pools, which are another job that follows
the same log. What counts are modules of the product in which a function is called after the
deletion of the Pod's record until its address is free. A first Pod is reclaimed before, so that
imports and the start of the jobs do not count.
"""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Final

from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.eventstore.kv import Get
from core.eventstore.memory import MemoryStore
from scripts.add_path import product_module
from tests.support.node_harness import NodeHarness, pod, pool
from workflows.jobs.job_host import JobHost, JobSettings

WITHOUT_AUTO_POOLS: Final = JobSettings(auto_pools=AutoPoolSettings(enabled=False))
RECLAIM_S_MAX: Final = 60.0
RETRY_S: Final = 0.2
"""Between two deletions: the job that listens to the log may still be starting."""


def measure_reclaim() -> set[str]:
    """Reclaim two Pods; the modules that the second one runs."""
    return asyncio.run(_measure())


async def _measure() -> set[str]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
        host = JobHost(node.store, node.keys, "one", WITHOUT_AUTO_POOLS)
        tasks = [asyncio.ensure_future(host.run()), asyncio.ensure_future(host.lead())]
        try:
            await _reclaim(node, "first")
            return await _record(node)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _record(node: NodeHarness) -> set[str]:
    modules: set[str] = set()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        module = product_module(frame) if event == "call" else None
        if module is not None:
            modules.add(module)

    await _create(node, "second")
    await node.apply(DeleteRecord("Pod", "shop", "second"))
    sys.setprofile(on_event)
    try:
        await _wait_until_free(node, "second")
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
    """Watch the endpoint's key, which runs no module but the store's."""
    key = node.keys.endpoint("shop", name)
    result = await node.store.read([Get(key)])
    if not result.ranges[0].kvs:
        return
    async with asyncio.timeout(RECLAIM_S_MAX):
        async for batch in node.store.watch([(key, key + b"\0")], after=result.revision):
            if any(change.value is None for change in batch.changes):
                return


def main() -> None:
    """Print each module, and their number."""
    modules = measure_reclaim()
    print("".join(f"{module}\n" for module in sorted(modules)), end="")
    print(f"{len(modules):6}  modules touched by the reclaim of one deleted Pod")


if __name__ == "__main__":
    main()
