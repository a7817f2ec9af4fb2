"""Reclaim of one Pod and of ten thousand leaks, and one scan of a hundred thousand claims.

``reclaim_one_ms``: from the command that deletes a Pod's record until the endpoint is deleted.
``reclaim_10k_s``: from the start of the jobs until all leaks are released; instead of waiting for
``OBSERVATION_GAP_S`` between two scans, the measure adds this interval to the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from bench.figures import Figure, median_figure
from bench.measures.calls import BareTransactions
from bench.measures.claim_scale import seed_claims
from bench.rig.lab import CLUSTER, Lab
from bench.rig.seeding import seed, spread_addresses, wide_pool
from bench.rig.worker import running_jobs
from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.reclaim.evidence import (
    OBSERVATION_GAP_S,
    ClusterLookup,
    Kind,
    Moment,
    NodeState,
    PodState,
)
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ExecutionNotFound
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from tests.support.cluster_snapshot import ClusterSnapshot, KindListing, ListedObjects
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost, JobSources
from workflows.jobs.reclaim.reclaim_context import PodChange, ReclaimContext, observer_of
from workflows.jobs.reclaim.scan import SCAN_NOW, WORKFLOW_ID
from workflows.jobs.reclaim.scan_activities import ReclaimActivities
from workflows.jobs.reclaim.scan_states import EMPTY_SCAN_STATE
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource
from workflows.jobs.shard_writers import Releases, ShardWriters

POLL_S = 0.02
SETTLED_S = 0.3
"""Seconds after which etcd serves a new watch without delay."""

PODS_A_ROUND = 20
ROUNDS_DIVISOR = 4
"""``reclaim_one_ms`` has fewer rounds by this factor, because each round has many samples."""

SCANNED_CLAIMS = 100_000
"""The time of ``scan_100k_s`` is scaled to this number of claims."""

WAIT_S_MAX = 120.0

LISTED: tuple[Kind, ...] = ("Pod", "Node", "StatefulSet")
CONTROLLER_POD = PodState(
    "kube-system", "controller", "controller-uid", node="n1", host_network=True
)


class MinimalCluster:
    """A source of cluster objects: one node, and the controller's Pod."""

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        """Return the node and the Pod."""
        listings = {kind: KindListing(claims_read) for kind in LISTED}
        objects = ListedObjects([CONTROLLER_POD], [NodeState("n1", ready=True)])
        return ClusterSnapshot(objects, listings, claims_read)

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        """Return the empty set."""
        return frozenset()

    async def changes(self) -> AsyncIterator[PodChange]:
        """Wait without an end: no Pod changes."""
        await asyncio.Event().wait()
        yield PodChange(CONTROLLER_POD)


def measure(lab: Lab) -> list[Figure]:
    """Measure reclaim_one_ms, reclaim_10k_s and scan_100k_s."""
    return [_measure_one(lab), _measure_leaks(lab), _measure_scan(lab)]


# ------------------------------------------------------------------------------------- one Pod


def _measure_one(lab: Lab) -> Figure:
    reclaim_ms: list[float] = []
    bare_ms: list[float] = []
    with lab.etcd() as etcd:
        bare = BareTransactions(lab, etcd)
        for number in lab.rounds(max(lab.scale.rounds // ROUNDS_DIVISOR, 1)):
            reclaim_ms += asyncio.run(_reclaim_pods(lab, etcd, number))
            bare_ms += bare.run(PODS_A_ROUND, 1).latencies_ms
    note = "a Pod's record is deleted without a DEL; reference: one bare transaction at a time"
    return median_figure("reclaim_one_ms", reclaim_ms, "ms", references=bare_ms, note=note)


async def _reclaim_pods(lab: Lab, etcd: EtcdCluster, number: int) -> list[float]:
    async with (
        lab.store(etcd) as store,
        NodeHarness(store, cluster=CLUSTER, cool_down_s=0) as node,
        running_jobs(JobHost(store, lab.keys, "bench")) as host,
    ):
        await node.apply(pool("narrow", "10.6.0.10-10.6.9.250"))
        names = [f"web-{number}-{index}" for index in range(PODS_A_ROUND)]
        for name in names:
            await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))
            await node.add(pod(name))
        await _wait_until_host_listens(node, host, f"first-{number}")
        async with _watch_deleted(store, lab.keys) as deleted_keys:
            return [await _delete_and_wait_ms(node, name, deleted_keys) for name in names]


async def _wait_until_host_listens(node: NodeHarness, host: JobHost, name: str) -> None:
    await node.add(pod(name))
    defined = ApplyRecord(RecordDefined("Pod", "shop", name))
    deleted = DeleteRecord("Pod", "shop", name)
    async with asyncio.timeout(WAIT_S_MAX):
        while not host.listener.received:
            await node.configurator.apply(defined, TEST_CAUSE)
            await node.configurator.apply(deleted, TEST_CAUSE)
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _watch_deleted(store: KeyValueStore, keys: Keys) -> AsyncIterator[asyncio.Queue[bytes]]:
    """Start a watch; yield a queue of the keys of deleted endpoints."""
    deleted_keys: asyncio.Queue[bytes] = asyncio.Queue()
    endpoints = keys.range_of("endpoint")
    revision = (await store.read([Get(*endpoints, count_only=True)])).revision

    async def watch() -> None:
        async for batch in store.watch([endpoints], after=revision):
            for change in batch.changes:
                if change.value is None:
                    deleted_keys.put_nowait(change.key)

    watch_task = asyncio.ensure_future(watch())
    await asyncio.sleep(SETTLED_S)
    yield deleted_keys
    watch_task.cancel()


async def _delete_and_wait_ms(
    node: NodeHarness, name: str, deleted_keys: asyncio.Queue[bytes]
) -> float:
    """Delete the record; return the milliseconds until the endpoint is deleted."""
    endpoint = node.keys.endpoint("shop", name)
    began = time.perf_counter()
    await node.configurator.apply(DeleteRecord("Pod", "shop", name), TEST_CAUSE)
    async with asyncio.timeout(WAIT_S_MAX):
        while await deleted_keys.get() != endpoint:
            pass
    return (time.perf_counter() - began) * 1e3


# ----------------------------------------------------------------------------------------- leaks


def _measure_leaks(lab: Lab) -> Figure:
    count = lab.scale.leaks
    durations_s: list[float] = []
    claimed_s: list[float] = []

    async def fill(store: KeyValueStore, keys: Keys) -> None:
        pools = [wide_pool()]
        await seed(store, keys, pools, spread_addresses(pools, count))

    data = lab.seed(f"leaks-{count}", fill)
    for number in lab.rounds(3):
        with lab.etcd(data) as etcd:
            durations_s.append(asyncio.run(_release_all_leaks(lab, etcd)) + OBSERVATION_GAP_S)
            parameters = {
                "endpoint": etcd.endpoints[0],
                "way": "writer",
                "callers": 32,
                "count": count,
            }
            claimed_s.append(lab.call("store", parameters | {"first": number * count})["seconds"])
    note = (
        f"{count:,} leaks; {OBSERVATION_GAP_S:g} s of the time are the interval between two scans;"
        " reference: claiming as many addresses by group commit"
    )
    return median_figure("reclaim_10k_s", durations_s, "s", references=claimed_s, note=note)


async def _release_all_leaks(lab: Lab, etcd: EtcdCluster) -> float:
    """Run the jobs of a controller; return the seconds until no claim exists."""
    # Added to the clock; an increase replaces the wait for the second scan.
    skew_s = 0.0

    def steady_s() -> float:
        return time.monotonic() + skew_s

    observer = observer_of(time.time, steady_s)
    async with lab.store(etcd) as store, Client(store, lab.keys) as client:
        host = JobHost(
            store, lab.keys, "bench", sources=JobSources(MinimalCluster()), observer=observer
        )
        claims = Get(*lab.keys.range_of("ip"), count_only=True)
        began = time.perf_counter()
        async with (
            asyncio.timeout(WAIT_S_MAX),
            running_jobs(host),
        ):
            while not await _claims_without_pod(client):
                await asyncio.sleep(POLL_S)
            skew_s = OBSERVATION_GAP_S
            await client.signal(WORKFLOW_ID, SCAN_NOW)
            while (await store.read([claims])).ranges[0].count:
                await asyncio.sleep(POLL_S)
            return time.perf_counter() - began


async def _claims_without_pod(client: Client) -> int:
    try:
        status = await client.query(WORKFLOW_ID, "status", timeout_s=WAIT_S_MAX)
    except ExecutionNotFound:
        return 0
    return int(status["suspects"])


# ------------------------------------------------------------------------------------- one scan


def _measure_scan(lab: Lab) -> Figure:
    with lab.etcd(seed_claims(lab, lab.scale.claims)) as etcd:
        scans_s, reads_s = asyncio.run(_scans(lab, etcd))
    claims = lab.scale.claims
    note = f"from {claims:,} claims without leaks; reference: only reading claims and endpoints"
    scans_s, reads_s = (
        [duration_s * SCANNED_CLAIMS / claims for duration_s in durations_s]
        for durations_s in (scans_s, reads_s)
    )
    return median_figure("scan_100k_s", scans_s, "s", references=reads_s, note=note)


async def _scans(lab: Lab, etcd: EtcdCluster) -> tuple[list[float], list[float]]:
    """The seconds of each scan, and of reading the same keys."""
    scans_s: list[float] = []
    reads_s: list[float] = []

    async def start_execution(_: ReclaimDeadline) -> None:
        raise AssertionError("an execution started, but no Pod was deleted")

    async with lab.store(etcd) as store:
        releases = Releases(store, lab.keys, ShardWriters(store, lab.keys))
        facts = StandaloneReclaimFactsSource(store, lab.keys)
        context = ReclaimContext(store, lab.keys, facts, ReclaimSettings(), observer_of(), releases)
        activities = ReclaimActivities(context, start_execution)
        await activities.observe(EMPTY_SCAN_STATE, EMPTY_SCAN_STATE)
        for _ in lab.rounds():
            began = time.perf_counter()
            await asyncio.gather(
                *(store.read([Get(*lab.keys.range_of(scope))]) for scope in ("ip", "endpoint"))
            )
            read = time.perf_counter()
            status = await activities.observe(EMPTY_SCAN_STATE, EMPTY_SCAN_STATE)
            scans_s.append(time.perf_counter() - read)
            reads_s.append(read - began)
            assert status.claims == lab.scale.claims, status
    return scans_s, reads_s
