"""A controller in a cluster of ten thousand Pods with claims: start time, memory, status writes.

Pods, SpiderEndpoints and pools exist before the controller starts. The lag of a status write is the
time from an allocation until the pool's status counts the allocation.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

from bench.figures import Figure, median_figure, percentile
from bench.measures.calls import UNLIMITED_ALLOCATIONS, CallFailed
from bench.rig.controller import ControllerProcess
from bench.rig.frames import FIRST_NEW_SERIAL, netconf
from bench.rig.kubernetes import (
    NODE,
    api_server,
    define_kinds,
    require_programs,
    write_cluster,
    write_endpoints,
    write_pools,
)
from bench.rig.lab import Lab
from bench.rig.seeding import exact_pool, many_pools, seed, spread_addresses
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.manifests.kinds.fields import API_VERSION
from core.process.environment import KUBECONFIG_VARIABLE
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import ApiServer

PODS: Final = 10_000

POOLS: Final = 100
RATE: Final = 100
"""Allocations per second."""

BUSY_POOL: Final = "busy"

BUSY_ADDRESSES: Final = 8_000
ROUNDS: Final = 3
REFERENCE_WRITES: Final = 20
SETTLED_S: Final = 2.0
"""The longest time in seconds from the last allocation until the status counts it."""

POLL_S: Final = 0.02

POOLS_PATH: Final = f"/apis/{API_VERSION}/spiderippools"
COORDINATORS_PATH: Final = f"/apis/{API_VERSION}/spidercoordinators"


class StatusChange(NamedTuple):
    """A change of the busy pool's status. ``at``: Unix time of the watch event."""

    at: float
    allocated: int


class StatusWrites(NamedTuple):
    """Measurements of status writes.

    ``lags_ms``: the lag of each allocation. ``writes_per_s``: writes per second. ``bare_ms``: the
    milliseconds from each write of an unrelated object until its watch event.
    """

    lags_ms: list[float]
    writes_per_s: float
    bare_ms: list[float]


def measure(lab: Lab) -> list[Figure]:
    """Measure controller_start_10k_s, controller_rss_10k_mb, status_lag_ms and status_writes_s."""
    require_programs()
    # Each key says whether the controller has an API server.
    starts_s: dict[bool, list[float]] = {True: [], False: []}
    memory_mb: dict[bool, list[float]] = {True: [], False: []}
    status_writes: StatusWrites | None = None
    # Only a full run has the reference: a controller without Kubernetes.
    variants = (True, False) if lab.scale.bare_controller else (True,)
    etcd = lab.etcd(lab.seed("kube-10k", lambda store, keys: _fill(lab, store, keys)))
    with api_server(lab.new_directory("kube"), etcd) as server:
        define_kinds(server)
        for _ in lab.rounds(ROUNDS):
            for with_cluster in variants:
                with _controller(lab, etcd, server if with_cluster else None) as controller:
                    starts_s[with_cluster].append(controller.ready_s)
                    controller.wait_idle()
                    memory_mb[with_cluster].append(controller.rss_mb())
                    # Only once, because afterwards all Pods have addresses.
                    status_writes = status_writes or asyncio.run(
                        _measure_status_writes(lab, etcd, server)
                    )
    assert status_writes is not None, "no round was run"
    pods = lab.scale.cluster_pods
    fewer = f", with {pods:,} Pods instead of {PODS:,}" if pods < PODS else ""
    compared = "; reference: without Kubernetes" if starts_s[False] else ""
    sizes = f"{pods:,} Pods with claims, {POOLS} pools{compared}"
    lags = status_writes.lags_ms
    lag = percentile(lags, 0.99)
    note = (
        f"p99 of {len(lags):,} allocations, {RATE} a second; median"
        f" {percentile(lags, 0.5):.0f} ms, largest {max(lags):.0f} ms;"
        " reference: from a write until its watch event"
    )
    bare = percentile(status_writes.bare_ms, 0.5)
    return [
        median_figure(
            "controller_start_10k_s",
            starts_s[True],
            f"s{fewer}",
            references=starts_s[False],
            note=sizes,
        ),
        median_figure(
            "controller_rss_10k_mb",
            memory_mb[True],
            f"MB{fewer}",
            references=memory_mb[False],
            note=sizes,
        ),
        Figure(
            "status_lag_ms",
            lag,
            "ms",
            reference=bare,
            note=note,
            samples=tuple(lags),
            references=tuple(status_writes.bare_ms),
        ),
        Figure("status_writes_s", status_writes.writes_per_s, "writes/s of a pool's status"),
    ]


async def _fill(lab: Lab, store: KeyValueStore, keys: Keys) -> None:
    """Write Pods with claims and SpiderEndpoints, and Pods without claims for the busy pool."""
    pools = await write_pools(store, [*many_pools(POOLS), exact_pool(BUSY_POOL, BUSY_ADDRESSES)])
    await seed(store, keys, pools, spread_addresses(pools[:POOLS], lab.scale.cluster_pods))
    pods_without_address = range(FIRST_NEW_SERIAL, FIRST_NEW_SERIAL + _allocation_count(lab))
    await write_cluster(store, [*range(lab.scale.cluster_pods), *pods_without_address])
    await write_endpoints(store, keys)


def _allocation_count(lab: Lab) -> int:
    return int(RATE * lab.scale.reported_s)


def _controller(lab: Lab, etcd: EtcdCluster, server: ApiServer | None) -> ControllerProcess:
    variables = {KUBECONFIG_VARIABLE: str(server.kubeconfig)} if server is not None else {}
    return ControllerProcess(lab.new_directory("controller"), etcd.endpoints[0], variables)


# --------------------------------------------------------------------------------- status writes


async def _measure_status_writes(lab: Lab, etcd: EtcdCluster, server: ApiServer) -> StatusWrites:
    api = Api(await open_connection(str(server.kubeconfig)))
    variables = {**UNLIMITED_ALLOCATIONS, KUBECONFIG_VARIABLE: str(server.kubeconfig)}
    agent = lab.agent(etcd, NODE, variables)
    parameters: dict[str, Any] = {
        "socket": str(agent.framed_path),
        "first": FIRST_NEW_SERIAL,
        "rate": RATE,
    }
    parameters |= {"count": _allocation_count(lab), "netconf": netconf([BUSY_POOL]).decode()}
    try:
        bare_ms = await _bare_writes_ms(api)
        with agent:
            changes: list[StatusChange] = []
            watch_task = asyncio.ensure_future(_watch(api, changes))
            report = await asyncio.to_thread(lab.call, "paced", parameters)
            if report["failures"]:
                raise CallFailed(f"{len(report['failures'])} ADDs: {report['failures'][0]}")
            await wait_until_counted(changes, parameters["count"])
            watch_task.cancel()
    finally:
        await api.close()
    answered = report["answered"]
    writes = sum(1 for change in changes if change.at <= answered[-1])
    return StatusWrites(lags_ms(answered, changes), writes / lab.scale.reported_s, bare_ms)


async def _watch(api: Api, changes: list[StatusChange]) -> None:
    """Append the changes of the busy pool's status to ``changes``."""
    busy_pool = f"{POOLS_PATH}?fieldSelector=metadata.name%3D{BUSY_POOL}"
    async for change in api.watch(busy_pool, (await api.list(busy_pool)).version):
        count = change.object.get("status", {}).get("allocatedIPCount", 0)
        if count and (not changes or changes[-1].allocated != count):
            changes.append(StatusChange(time.time(), count))


async def wait_until_counted(changes: list[StatusChange], count: int) -> None:
    """Wait until the status counts all allocations. Raises CallFailed."""
    deadline = time.monotonic() + SETTLED_S
    while not changes or changes[-1].allocated < count:
        if time.monotonic() > deadline:
            counted = changes[-1].allocated if changes else 0
            raise CallFailed(
                f"the status counts {counted} of {count} allocations"
                f" {SETTLED_S:g} s after the last allocation"
            )
        await asyncio.sleep(POLL_S)


def lags_ms(answered: list[float], changes: list[StatusChange]) -> list[float]:
    """The lag of each allocation, in milliseconds; the last change must count all allocations.

    ``answered``: Unix times of the allocations.
    """
    lags: list[float] = []
    remaining = iter(changes)
    change = next(remaining)
    for number, answered_at in enumerate(answered, 1):
        while change.allocated < number:
            change = next(remaining)
        lags.append(max(change.at - answered_at, 0) * 1e3)
    return lags


async def _bare_writes_ms(api: Api) -> list[float]:
    body = {
        "apiVersion": API_VERSION,
        "kind": "SpiderCoordinator",
        "metadata": {"name": "probe"},
        "spec": {"podCIDRType": "none"},
    }
    created = await api.create(COORDINATORS_PATH, body)
    event_times: asyncio.Queue[float] = asyncio.Queue()

    async def watch() -> None:
        async for _ in api.watch(COORDINATORS_PATH, created["metadata"]["resourceVersion"]):
            event_times.put_nowait(time.perf_counter())

    watch_task = asyncio.ensure_future(watch())
    times = []
    for number in range(REFERENCE_WRITES):
        began = time.perf_counter()
        await api.merge(
            f"{COORDINATORS_PATH}/probe", {"metadata": {"annotations": {"n": str(number)}}}
        )
        times.append((await event_times.get() - began) * 1e3)
    watch_task.cancel()
    with suppress(asyncio.CancelledError):
        await watch_task
    return times
