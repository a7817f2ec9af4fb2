"""Delayed requests of a partitioned leader are refused after another controller leads.

etcd refuses a request whose sender is not the leader. The API server refuses a request with an old
resourceVersion.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.domain.reclaim.settings import RECLAIM_VARIABLES
from core.eventstore.election import Leader, read_leader
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Get
from core.manifests.kinds.fields import API_VERSION
from core.projections.publisher import CHECKPOINT_CODEC, CHECKPOINT_NAME
from ops.settings import CONTROLLER_ROLE
from tests.fixtures.kubernetes import CONTROLLER_USERS
from tests.kubernetes.objects import create, get, pool
from tests.kubernetes.translator_harness import until
from tests.support.audit import Audit, AuditedRequest
from tests.support.controller_process import ControllerProcess
from tests.support.interruptible_proxy import InterruptibleProxy
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import NodeHarness, check_everything, pod

pytestmark = [pytest.mark.etcd, pytest.mark.slow]

LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases/spiderpool-controller-leases"
ENDPOINTS_PATH = f"/apis/{API_VERSION}/namespaces/shop/spiderendpoints"
LEASE_TTL_S = 4
"""TTL of the leader's lease in etcd."""


class ConnectedController:
    """A controller, with a proxy to etcd and a proxy to the API server.

    ``name`` is also the controller's user name at the API server.
    """

    def __init__(self, server: ApiServer, name: str) -> None:
        (endpoint,) = server.etcd_endpoints
        self.name = name
        self.etcd = InterruptibleProxy(endpoint)
        self.api = InterruptibleProxy(server.url.removeprefix("https://"))
        self._kubeconfig = server.kubeconfig_of(name)

    async def start(self, stack: AsyncExitStack, cluster: str, directory: Path) -> None:
        for proxy in (self.etcd, self.api):
            await stack.enter_async_context(proxy)
        document = yaml.safe_load(self._kubeconfig.read_text())
        document["clusters"][0]["cluster"]["server"] = f"https://{self.api.endpoint}"
        path = directory / self._kubeconfig.name
        path.write_text(yaml.safe_dump(document))
        option = f"--kubeconfig={path}"
        arguments = self.name, self.etcd.endpoint, cluster, directory, option
        process = ControllerProcess(*arguments, lease_ttl_s=LEASE_TTL_S)
        self.process = stack.enter_context(process)

    def status_writes(self, audited: Iterable[AuditedRequest]) -> list[AuditedRequest]:
        return [
            request
            for request in audited
            if request.user == self.name
            and request.has_written
            and request.resource == "spiderippools/status"
        ]


class PartitionHarness:
    """Two controllers on one event log, and a node that gives addresses to Pods."""

    def __init__(self, server: ApiServer, node: NodeHarness) -> None:
        self.server = server
        self.node = node
        self.controllers = {name: ConnectedController(server, name) for name in CONTROLLER_USERS}
        self._audit = Audit(server.directory, CONTROLLER_USERS)
        self._pods_added = 0

    def requests(self) -> list[AuditedRequest]:
        return self._audit.requests()

    async def leader(self) -> Leader | None:
        """The leader according to etcd."""
        found = await read_leader(self.node.store, self.node.keys, CONTROLLER_ROLE)
        return found[0] if found else None

    async def until_leader(self, *names: str) -> ConnectedController:
        async with asyncio.timeout(30):
            while (found := await self.leader()) is None or found.name not in names:
                await asyncio.sleep(0.05)
        return self.controllers[found.name]

    async def add_pod(self) -> None:
        await self.node.add(pod(f"web-{self._pods_added}"))
        self._pods_added += 1

    async def until_pods_counted(self) -> None:
        """Wait until the pool's status counts the addresses of all added Pods."""
        await until(lambda: self.pool_status().get("allocatedIPCount") == self._pods_added)

    def pool_status(self) -> dict[str, Any]:
        found: dict[str, Any] = get(self.server, "SpiderIPPool", "blue").get("status", {})
        return found

    def lease_holder(self) -> str:
        """The leader according to the Lease."""
        spec = self.server.request("GET", LEASE_PATH).body.get("spec", {})
        return str(spec.get("holderIdentity", ""))

    def addresses_of_endpoints(self) -> set[str]:
        items = self.server.request("GET", ENDPOINTS_PATH).body["items"]
        return {
            nic["ipv4"].partition("/")[0]
            for item in items
            for nic in item["status"]["current"]["ips"]
        }

    async def checkpoint_writer(self) -> str:
        """The controller that last wrote the checkpoint, a position in the event log."""
        key = self.node.keys.meta(CHECKPOINT_NAME)
        (kv,) = (await self.node.store.read([Get(key)])).ranges[0].kvs
        return CHECKPOINT_CODEC.decode(kv.value).writer


@pytest.fixture
async def partition(
    server: ApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[PartitionHarness]:
    monkeypatch.setenv("SPIDERPOOL_POD_NAMESPACE", "default")
    # Reclaim would release all addresses, because the Pods exist only in the event log.
    monkeypatch.setenv(RECLAIM_VARIABLES["enabled"], "false")
    store = EtcdStore(EtcdSettings(server.etcd_endpoints))
    node = NodeHarness(store, cluster=tmp_path.name)
    create(server, pool(ips=["10.6.0.10-10.6.0.29"], default=True))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await stack.enter_async_context(node)
        harness = PartitionHarness(server, node)
        for controller in harness.controllers.values():
            await controller.start(stack, tmp_path.name, tmp_path)
        yield harness
    server.request("DELETE", LEASE_PATH)


@pytest.mark.parametrize(
    "is_api_server_partitioned", [False, True], ids=["etcd", "etcd_and_API_server"]
)
async def test_the_delayed_writes_of_a_partitioned_leader_are_refused(
    partition: PartitionHarness, is_api_server_partitioned: bool
) -> None:
    old = await partition.until_leader(*CONTROLLER_USERS)
    (other_name,) = partition.controllers.keys() - {old.name}
    await until(partition.pool_status)
    await partition.node.view.freshen()
    await partition.add_pod()
    await partition.until_pods_counted()

    # The old leader receives the next change, but the proxies hold its writes.
    checkpoint = partition.node.keys.meta(CHECKPOINT_NAME)
    for proxy in (old.etcd, old.api) if is_api_server_partitioned else (old.etcd,):
        proxy.interrupt_requests()
    await partition.add_pod()
    await until(lambda: checkpoint in old.etcd.held)
    new = await partition.until_leader(other_name)
    await old.process.until_metric("orbweaver_leading", 0)
    await partition.add_pod()
    await partition.until_pods_counted()
    requests_before = len(partition.requests())

    # The held requests of the old leader arrive, and the old leader becomes a standby.
    for proxy in (old.etcd, old.api):
        proxy.restore()
    await old.process.until_ready()
    await old.process.until_metric("orbweaver_projection_lag_events", 0)
    create(partition.server, pool("green", ips=["10.6.0.40"]))
    await partition.add_pod()
    await partition.until_pods_counted()
    await until(lambda: get(partition.server, "SpiderIPPool", "green").get("status"))

    requests_since = partition.requests()[requests_before:]
    assert not old.status_writes(requests_since)
    assert new.status_writes(requests_since)
    assert await partition.checkpoint_writer() == new.name
    assert partition.lease_holder() == new.name

    assert await asyncio.to_thread(new.process.terminate) == 0
    assert await partition.until_leader(old.name) is old
    await partition.add_pod()
    await partition.until_pods_counted()
    await until(lambda: partition.lease_holder() == old.name)
    ledger = await check_everything(partition.node)
    await until(lambda: partition.addresses_of_endpoints() == set(ledger.claims))
