"""Executions per second of the workflow engine, and the time to replay a history.

Each execution has one activity. The reference is the rate of bare transactions: etcd transactions
like those of an ADD. Bare transactions run before and after each round, because the machine's
speed changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean

from bench.figures import Figure, median_figure, ratio_figure
from bench.measures.calls import BareTransactions
from bench.rig.lab import Lab
from bench.rig.sample_workflows import SAMPLE_REGISTRY, Errand, Errands
from bench.rig.worker import WorkerProcess
from tests.support.etcd import EtcdCluster
from workflows.engine.client.client import Client
from workflows.engine.store.records import decode_history, encode_history
from workflows.model.events import HistoryEvent
from workflows.testing import replay
from workflows.testing.environment import WorkflowEnvironment

CALLERS = 64
EVENTS_PER_ERRAND = 6
HISTORY_EVENTS = 4_000
BARE_CALLERS = 32
WARM_UP = 300
"""Executions until the worker has filled its caches."""

ROUNDS_MIN = 5
"""Rounds that run even if the measure has no time left."""

BARE_PER_EXECUTION = 3
"""Bare transactions for each execution; they take about as long as the execution."""


def measure(lab: Lab) -> list[Figure]:
    """Measure wf_rate, wf_rate_of_bare and wf_replay_4000_ms."""
    return [*_rates(lab), _replay(lab)]


def _rates(lab: Lab) -> list[Figure]:
    rates: list[float] = []
    count = lab.scale.executions
    with lab.etcd() as etcd, WorkerProcess(etcd.endpoints[0], "worker") as worker:
        bare = BareTransactions(lab, etcd)
        asyncio.run(_run_errands(lab, etcd, "warm-up", WARM_UP))
        bare_rates = [bare.run(count * BARE_PER_EXECUTION, BARE_CALLERS).rate]
        cpu_s = 0.0
        for number in lab.rounds(least=ROUNDS_MIN):
            began_s = worker.cpu_s()
            seconds = asyncio.run(_run_errands(lab, etcd, f"round-{number}", count))
            cpu_s += worker.cpu_s() - began_s
            rates.append(count / seconds)
            bare_rates.append(bare.run(count * BARE_PER_EXECUTION, BARE_CALLERS).rate)
    per_execution_ms = cpu_s * 1e3 / (count * len(rates))
    note = (
        f"{count:,} executions of one activity, {CALLERS} callers; {per_execution_ms:.2f} ms CPU of"
        f" the worker each; reference: bare transactions/s at {BARE_CALLERS} callers"
    )
    ratios = [
        rate / fmean(rates_around)
        for rate, rates_around in zip(rates, pairwise(bare_rates), strict=True)
    ]
    return [
        median_figure("wf_rate", rates, "/s", references=bare_rates, note=note),
        ratio_figure("wf_rate_of_bare", ratios, "the rate of bare transactions"),
    ]


async def _run_errands(lab: Lab, etcd: EtcdCluster, prefix: str, count: int) -> float:
    """Run executions whose ids have the prefix; return the seconds."""
    async with lab.store(etcd) as store, Client(store, lab.keys) as client:
        numbers: Iterator[int] = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                handle = await client.start(Errand, number, id=f"{prefix}-{number}")
                assert await handle.result() == number

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return time.perf_counter() - began


def _replay(lab: Lab) -> Figure:
    history = asyncio.run(_long_history())
    data = encode_history(history)
    replay_ms: list[float] = []
    decoding_ms: list[float] = []
    for _ in lab.rounds():
        began = time.perf_counter()
        decode_history(data)
        decoded = time.perf_counter()
        replay(SAMPLE_REGISTRY, history)
        decoding_ms.append((decoded - began) * 1e3)
        replay_ms.append((time.perf_counter() - decoded) * 1e3)
    note = f"{len(history):,} events; reference: decoding these events"
    return median_figure("wf_replay_4000_ms", replay_ms, "ms", references=decoding_ms, note=note)


async def _long_history() -> list[HistoryEvent]:
    async with WorkflowEnvironment(SAMPLE_REGISTRY) as environment:
        handle = await environment.start(Errands, HISTORY_EVENTS // EVENTS_PER_ERRAND)
        await handle.result()
        return list(await handle.history())
