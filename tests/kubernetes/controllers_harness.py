"""Several controllers that watch a real API server and run reclaim workflows.

No kubelet runs, so the tests end and delete Pods. ``scan_again`` advances the clock of the
observations by the gap that a reclaim scan requires between two observations.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import yaml

from core.allocation.allocator import AllocatorSettings
from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.model import FixedKind
from core.domain.reclaim.evidence import OBSERVATION_GAP_S
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.request_facts import PodFacts
from core.domain.selection.selection_request import SelectionSettings
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Get
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.watches.cluster_watch import ClusterWatch
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import PODS_PATH, create_pod, delete_workloads
from tests.support.engine_harness import DEADLINE_S, eventually
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import NodeHarness, check_everything, pool
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost, JobSettings, JobSources
from workflows.jobs.reclaim.reclaim_context import observer_of
from workflows.jobs.reclaim.scan import SCAN_NOW, WORKFLOW_ID
from workflows.model.payloads import Payload

NODE_NAME = "node-1"
QUICK_RECLAIM = ReclaimSettings(on_demand_gap_s=0.0)
"""A reclaim on demand does not wait between two observations."""

_numbers = itertools.count()


class Replica(NamedTuple):
    """A running controller."""

    host: JobHost
    watch: ClusterWatch
    tasks: list[asyncio.Task[None]]


class ControllersHarness:
    """A node with the pool ``main``, and the controllers that a test starts."""

    def __init__(
        self,
        server: ApiServer,
        settings: ReclaimSettings = QUICK_RECLAIM,
    ) -> None:
        self.server = server
        self.store = EtcdStore(EtcdSettings(server.etcd_endpoints))
        selection = SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)
        allocating = AllocatorSettings("sequential", selection=selection)
        name = f"controllers-{next(_numbers)}-{time.time_ns():x}"
        self.node = NodeHarness(
            self.store, NODE_NAME, cluster=name, settings=allocating, cool_down_s=0
        )
        self.client = Client(self.store, self.node.keys)
        self.replicas: dict[str, Replica] = {}
        self._settings = JobSettings(settings, AutoPoolSettings())
        self._clock_offset_s = 0.0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        delete_workloads(self.server)
        create_node(self.server, NODE_NAME)
        create_pod(self.server, "controller", NODE_NAME)
        await self._stack.enter_async_context(self.node)
        await self._stack.enter_async_context(self.client)
        await self.node.apply(pool("main", "10.6.0.10-10.6.9.250"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self.replicas):
            await self.stop_controller(name)
        await self._stack.aclose()
        await self.store.close()

    async def start_controller(
        self, name: str = "one", *, leads: bool = True, anonymous: bool = False
    ) -> Replica:
        """Start a controller, and wait until its worker runs.

        ``anonymous``: connect without credentials.
        """
        kubeconfig = self._kubeconfig_without_credentials() if anonymous else self.server.kubeconfig
        api = Api(await open_connection(str(kubeconfig)))
        watch = ClusterWatch(api, self._settings.reclaim)
        observer = observer_of(time.time, lambda: time.monotonic() + self._clock_offset_s)
        sources = JobSources(watch.facts, watch.applications)
        arguments = self.store, self.node.keys, name, self._settings
        host = JobHost(*arguments, sources=sources, observer=observer)
        coroutines = [watch.run(), host.run()] + ([watch.lead(), host.lead()] if leads else [])
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        self.replicas[name] = Replica(host, watch, tasks)
        await self.until(lambda: (anonymous or not watch.facts.fault) and host.worker.is_working)
        return self.replicas[name]

    async def stop_controller(self, name: str) -> None:
        replica = self.replicas.pop(name)
        for task in replica.tasks:
            task.cancel()
        await asyncio.gather(*replica.tasks, return_exceptions=True)
        await replica.watch.close()

    async def stop_watching(self, name: str) -> None:
        """Cancel the watches of a controller; the controller gets no error."""
        task = self.replicas[name].tasks[0]  # watch.run()
        task.cancel()
        await asyncio.wait([task])

    def watch_again(self, name: str) -> None:
        """Continue the watches of a controller at their last position."""
        replica = self.replicas[name]
        replica.tasks[0] = asyncio.create_task(replica.watch.run())

    async def add(self, api_pod: Object, fixed: FixedKind | None = None) -> tuple[str, ...]:
        """Run an ADD for a Pod of the API server; return its addresses."""
        added = await self.node.add(self.facts(api_pod, fixed))
        return tuple(address for address, _ in added.endpoint.addresses())

    def facts(self, api_pod: Object, fixed: FixedKind | None = None) -> PodFacts:
        metadata = api_pod["metadata"]
        owner = next(iter(metadata.get("ownerReferences", ())), {"name": ""})
        return PodFacts(
            metadata["namespace"],
            metadata["name"],
            metadata["uid"],
            api_pod["spec"].get("nodeName", NODE_NAME),
            annotations=metadata.get("annotations", {}),
            fixed=fixed,
            endpoint_name=owner["name"] if fixed == "vm" else "",
        )

    async def claimed_addresses(self) -> set[str]:
        return set((await self.node.read_ledger()).claims)

    async def addresses_of_pod(self, name: str) -> set[str]:
        claims = (await self.node.read_ledger()).claims
        return {address for address, revised in claims.items() if revised.claim.pod == name}

    async def until_claimed(self, *addresses: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until exactly these addresses are claimed; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (claimed := await self.claimed_addresses()) != set(addresses):
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected claims {addresses}, got {sorted(claimed)[:9]}")
            await asyncio.sleep(0.05)

    async def until_executions(self, *pods: str) -> None:
        """Wait until each of these Pods has an open execution of the reclaim workflow."""
        for name in pods:
            uid = self.server.request("GET", f"{PODS_PATH}/{name}").body["metadata"]["uid"]
            key = self.client.keys.open(f"reclaim/shop/{name}/{uid}")

            async def has_execution(key: bytes = key) -> bool:
                return bool((await self.store.read([Get(key)])).ranges[0].kvs)

            await eventually(has_execution)

    async def until_scan_status(self, holds: Callable[[dict[str, Payload]], bool]) -> None:

        async def has_status() -> bool:
            return holds(await self.scan_status())

        await eventually(has_status)

    async def scan_status(self) -> dict[str, Payload]:
        """The status of the reclaim scan, a workflow that always runs."""
        status = await self.client.query(WORKFLOW_ID, "status", timeout_s=20)
        assert isinstance(status, dict)
        return status

    async def scan_again(self) -> dict[str, Payload]:
        """Advance the clock of the observations, and scan; return the status of the scan."""
        self._clock_offset_s += OBSERVATION_GAP_S
        before = await self.scan_status()
        await self.client.signal(WORKFLOW_ID, SCAN_NOW)

        async def has_scanned() -> bool:
            status = await self.scan_status()
            return _scan_count(status) > _scan_count(before) and status["phase"] == "waiting"

        await eventually(has_scanned)
        return await self.scan_status()

    async def until(self, holds: Callable[[], object]) -> None:

        async def is_true() -> bool:
            return bool(holds())

        await eventually(is_true)

    def _kubeconfig_without_credentials(self) -> Path:
        document = yaml.safe_load(self.server.kubeconfig.read_text())
        document["users"] = [{"name": "tester", "user": {}}]
        path = self.server.kubeconfig.with_name("anonymous")
        path.write_text(yaml.safe_dump(document))
        return path

    async def stop_and_check(self) -> None:
        """Stop all controllers, and check all invariants over the whole event log."""
        for name in list(self.replicas):
            await self.stop_controller(name)
        await check_everything(self.node)


def _scan_count(status: dict[str, Payload]) -> int:
    """The number of scans, successful or failed."""
    return int(str(status["looks"])) + int(str(status["failed_looks"]))


def create_node(server: ApiServer, name: str, *, ready: bool = True) -> None:
    server.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    set_node_ready(server, name, ready=ready)


def set_node_ready(server: ApiServer, name: str, *, ready: bool) -> None:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    path = f"/api/v1/nodes/{name}/status"
    merge = "application/strategic-merge-patch+json"
    server.request("PATCH", path, {"status": {"conditions": [condition]}}, content=merge)
