"""The CPU of a worker that owns ten thousand sleeping executions.

The reference is the CPU of the same worker without executions.
"""

from __future__ import annotations

import asyncio
import time

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from bench.rig.sample_workflows import Sleeper
from bench.rig.worker import WorkerProcess
from core.eventstore.kv import Get
from tests.support.etcd import EtcdCluster
from workflows.engine.client.client import Client
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys

STARTERS = 64

POLL_S = 0.1


def measure(lab: Lab) -> list[Figure]:
    """Measure wf_idle_cpu_pct."""
    count, seconds = lab.scale.sleepers, lab.scale.idle_s
    with lab.etcd() as etcd, WorkerProcess(etcd.endpoints[0], "worker") as worker:
        unloaded_pct = [_cpu_pct(worker, seconds) for _ in lab.rounds(1)]
        asyncio.run(_start_sleepers(lab, etcd, count))
        sleeping_pct = [_cpu_pct(worker, seconds) for _ in lab.rounds(3)]
    note = f"{count:,} sleeping executions, {seconds:g} s; reference: no executions"
    return [
        median_figure(
            "wf_idle_cpu_pct", sleeping_pct, "% of a core", references=unloaded_pct, note=note
        )
    ]


def _cpu_pct(worker: WorkerProcess, seconds: float) -> float:
    began, before = time.perf_counter(), worker.cpu_s()
    time.sleep(seconds)
    return (worker.cpu_s() - before) / (time.perf_counter() - began) * 100


async def _start_sleepers(lab: Lab, etcd: EtcdCluster, count: int) -> None:
    async with lab.store(etcd) as store, Client(store, lab.keys) as client:
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                await client.start(Sleeper, id=f"sleeper-{number}")

        await asyncio.gather(*(caller() for _ in range(STARTERS)))
        # The worker deletes a message's key after processing the message.
        inbox = Get(*WorkflowKeys(lab.keys, DEFAULT_QUEUE).range_of("wake/inbox"), count_only=True)
        while (await store.read([inbox])).ranges[0].count:
            await asyncio.sleep(POLL_S)
