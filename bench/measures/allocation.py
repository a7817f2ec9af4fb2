"""ADDs of one agent: rate with 32 callers, latency with one caller, CPU of the agent.

The references are bare transactions: like those of an ADD, but sent without an agent, by grpc.aio
or by the agent's etcd client.
"""

from __future__ import annotations

import asyncio

from bench.figures import Figure, median_figure, percentile, ratio_figure
from bench.measures.calls import UNLIMITED_ALLOCATIONS, AddCaller, BareTransactions, Calls
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LogReader
from tests.support.etcd import EtcdCluster

CALLERS = 32
NODE = "node-0"


async def define_wide_pool(store: KeyValueStore, keys: Keys) -> None:
    """Define the only pool of the cluster, a default pool."""
    await SeedWriter(store, keys, "operator").define([wide_pool()])


def measure(lab: Lab) -> list[Figure]:
    """Measure alloc_rate_32, other figures of ADDs, and their ratios to bare transactions."""
    adds_32: list[Calls] = []
    transactions = 0
    adds_1: list[Calls] = []
    bare_32: list[Calls] = []
    bare_1: list[Calls] = []
    own_client_32: list[Calls] = []
    with lab.etcd() as etcd:
        lab.fill(etcd, define_wide_pool)
        with lab.agent(etcd, NODE, variables=UNLIMITED_ALLOCATIONS) as agent:
            caller, bare = AddCaller(lab, agent), BareTransactions(lab, etcd)
            caller.warm_up()
            for _ in lab.rounds():
                bare_32.append(bare.run(lab.scale.adds, CALLERS))
                own_client_32.append(bare.run(lab.scale.adds, CALLERS, client="own"))
                before = _segment_count(lab, etcd)
                adds_32.append(caller.add(lab.scale.adds, CALLERS))
                transactions += _segment_count(lab, etcd) - before
                bare_1.append(bare.run(lab.scale.lone_adds, 1))
                adds_1.append(caller.add(lab.scale.lone_adds, 1))
    adds_per_transaction = len(adds_32) * lab.scale.adds / transactions
    return [
        median_figure(
            "alloc_rate_32",
            [calls.rate for calls in adds_32],
            "ADD/s",
            references=[calls.rate for calls in bare_32],
            note=f"{CALLERS} callers, {_p50_and_p99(adds_32)},"
            f" {adds_per_transaction:.1f} ADDs a transaction;"
            f" reference: bare transactions, {_p50_and_p99(bare_32)}",
        ),
        median_figure(
            "alloc_p50_1_ms",
            [calls.p50_ms for calls in adds_1],
            "ms",
            references=[calls.p50_ms for calls in bare_1],
            note=f"one caller, {_p50_and_p99(adds_1)}; reference: one bare transaction at a time",
        ),
        median_figure(
            "alloc_cpu_ms",
            [calls.cpu_ms for calls in adds_32],
            "ms CPU of the agent per ADD",
            references=[calls.cpu_ms for calls in bare_32],
            note=f"at {CALLERS} callers; reference: CPU of the bare client per transaction",
        ),
        *_ratios(adds_32, bare_32, adds_1, bare_1),
        *_client_ratios(adds_32, bare_32, own_client_32),
    ]


def _ratios(
    adds_32: list[Calls], bare_32: list[Calls], adds_1: list[Calls], bare_1: list[Calls]
) -> list[Figure]:
    rounds = list(zip(adds_32, bare_32, strict=True))
    single_caller_rounds = zip(adds_1, bare_1, strict=True)
    return [
        ratio_figure(
            "alloc_rate_of_bare_32",
            [calls.rate / bare.rate for calls, bare in rounds],
            "the rate of bare transactions",
        ),
        ratio_figure(
            "alloc_p50_of_bare_1",
            [calls.p50_ms / bare.p50_ms for calls, bare in single_caller_rounds],
            "a bare transaction's time",
        ),
        ratio_figure(
            "alloc_cpu_of_bare",
            [calls.cpu_ms / bare.cpu_ms for calls, bare in rounds],
            "the bare client's CPU",
        ),
    ]


def _client_ratios(
    adds_32: list[Calls], bare_32: list[Calls], own_client_32: list[Calls]
) -> list[Figure]:
    """ADDs relative to bare transactions with the agent's client, and this relative to grpc.aio."""
    rounds = list(zip(adds_32, bare_32, own_client_32, strict=True))
    return [
        ratio_figure(
            "alloc_rate_of_client_32",
            [calls.rate / client.rate for calls, _, client in rounds],
            "the rate of bare transactions by our own client",
        ),
        ratio_figure(
            "alloc_cpu_of_client",
            [calls.cpu_ms / client.cpu_ms for calls, _, client in rounds],
            "our own client's CPU per bare transaction",
        ),
        ratio_figure(
            "client_cpu_of_grpc",
            [own.cpu_ms / bare.cpu_ms for _, bare, own in rounds],
            "grpc.aio's CPU per bare transaction",
        ),
    ]


def _segment_count(lab: Lab, etcd: EtcdCluster) -> int:

    async def read() -> int:
        async with lab.store(etcd) as store:
            _, heads = await LogReader(store, lab.keys).heads()
            return heads[NODE].seq

    return asyncio.run(read())


def _p50_and_p99(rounds: list[Calls]) -> str:
    latencies = [latency for calls in rounds for latency in calls.latencies_ms]
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
