"""The time until another worker runs the executions of a killed worker.

The time ends when each execution has answered a query. The reference is the same queries to two
running workers.
"""

from __future__ import annotations

import asyncio
import time

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from bench.rig.sample_workflows import Sleeper
from bench.rig.worker import WorkerProcess
from tests.support.etcd import EtcdCluster
from workflows.engine.client.client import Client
from workflows.engine.store.session import WORKER_TTL_S

EXECUTIONS = 64
QUERY_S_MAX = 30.0


def measure(lab: Lab) -> list[Figure]:
    """Measure wf_takeover_s."""
    durations_s: list[float] = []
    reference_s: list[float] = []
    with lab.etcd() as etcd, WorkerProcess(etcd.endpoints[0], "survivor"):
        asyncio.run(_start_sleepers(lab, etcd))
        for number in lab.rounds():
            with WorkerProcess(etcd.endpoints[0], f"victim-{number}") as victim:
                reference_s.append(asyncio.run(_query_all(lab, etcd)))
                victim.kill()
                durations_s.append(asyncio.run(_query_all(lab, etcd)))
    note = (
        f"{EXECUTIONS} sleeping executions, half of them owned by the killed worker, whose lease"
        f" has a TTL of {WORKER_TTL_S} s; reference: the same queries while both workers run"
    )
    return [median_figure("wf_takeover_s", durations_s, "s", references=reference_s, note=note)]


async def _start_sleepers(lab: Lab, etcd: EtcdCluster) -> None:
    async with lab.store(etcd) as store, Client(store, lab.keys) as client:
        for number in range(EXECUTIONS):
            await client.start(Sleeper, id=f"sleeper-{number}")


async def _query_all(lab: Lab, etcd: EtcdCluster) -> float:
    async with lab.store(etcd) as store, Client(store, lab.keys) as client:
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(
                client.query(f"sleeper-{number}", "is_running", timeout_s=QUERY_S_MAX)
                for number in range(EXECUTIONS)
            )
        )
        assert all(answers)
        return time.perf_counter() - began
