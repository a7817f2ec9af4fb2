"""``orbctl import spiderpool`` takes over addresses from Spiderpool's objects on an API server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.kubernetes.translated_kinds import FINALIZER
from tests.core.manifests.spiderpool_dumps import (
    spider_endpoint,
    spider_ip_pool,
    spider_nic,
    spider_reserved_ip,
)
from tests.kubernetes.objects import Object, get, path_of
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import addresses, check_everything, pod

POD_BY_ADDRESS = {
    f"10.6.0.{number}": f"shop/web-{number} uid-web-{number}" for number in range(10, 20)
}
REPLICA_BY_ADDRESS = {"fd00:6::10": "shop/db-0 uid-db-0"}
"""Address -> namespace, name and UID of the Pod, as Spiderpool writes them in a pool."""


def create_with_status(server: ApiServer, body: Object, *, is_deleted: bool = False) -> None:
    """Create an object with its status; ``is_deleted``: also delete it, but keep its finalizer."""
    name, kind = body["metadata"]["name"], body["kind"]
    metadata = body["metadata"] | {"finalizers": [FINALIZER]}
    path = path_of(kind, "", "shop")
    answer = server.request("POST", path, body | {"metadata": metadata})
    assert answer.status == 201, answer.message
    if kind == "SpiderIPPool":
        part = {"status": body["status"]}
        answer = server.request("PATCH", f"{path}/{name}/status", part, content=MERGE_PATCH)
        assert answer.status == 200, answer.message
    if is_deleted:
        server.request("DELETE", f"{path}/{name}")


def create_spiderpool_objects(server: ApiServer) -> None:
    """Create two pools, a reservation, and the endpoints of ten Pods and of a replica.

    The endpoint of web-19 is in deletion, the address of web-12 is reserved, and the Pod of
    10.6.0.30 is gone.
    """
    leaked_allocation = {"10.6.0.30": "shop/gone-0 uid-gone-0"}
    create_with_status(
        server,
        spider_ip_pool(
            "lan",
            "10.6.0.0/16",
            "10.6.0.1-10.6.0.99",
            allocations=POD_BY_ADDRESS | leaked_allocation,
        ),
    )
    disabled = spider_ip_pool(
        "six", "fd00:6::/64", "fd00:6::10-fd00:6::1f", allocations=REPLICA_BY_ADDRESS, disable=True
    )
    create_with_status(server, disabled)
    create_with_status(server, spider_reserved_ip("later", "10.6.0.12"))
    for address, text in POD_BY_ADDRESS.items():
        name, uid = text.removeprefix("shop/").split()
        pod_endpoint = spider_endpoint(name, uid, spider_nic(f"{address}/16", "lan"))
        create_with_status(server, pod_endpoint, is_deleted=name == "web-19")
    ipv6_nic = {"interface": "eth0", "ipv6": "fd00:6::10/64", "ipv6Pool": "six"}
    replica = spider_endpoint("db-0", "uid-db-0", ipv6_nic, owner="StatefulSet", outlives_pod=True)
    create_with_status(server, replica)


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """A cluster with objects of Spiderpool; no controller of Orbweaver runs yet."""
    await asyncio.to_thread(create_spiderpool_objects, server)
    async with TranslatorHarness(server, translates=False) as harness:
        yield harness
        await harness.stop_translator()
        await check_everything(harness.node)
    for name in (*POD_BY_ADDRESS.values(), *REPLICA_BY_ADDRESS.values()):
        path = path_of("SpiderEndpoint", name.removeprefix("shop/").split()[0], "shop")
        without_finalizers = {"metadata": {"finalizers": None}}
        await asyncio.to_thread(
            server.request, "PATCH", path, without_finalizers, content=MERGE_PATCH
        )
        await asyncio.to_thread(server.request, "DELETE", path)


async def orbctl(cluster: TranslatorHarness, *arguments: str) -> subprocess.CompletedProcess[str]:
    server = cluster.server
    options = ["--etcd", ",".join(server.etcd_endpoints), "--cluster", cluster.keys.cluster]
    command = [sys.executable, "-m", "ops.cli.main", *options, *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True
    )


async def import_spiderpool(
    cluster: TranslatorHarness, *arguments: str
) -> subprocess.CompletedProcess[str]:
    access = ("--kubeconfig", str(cluster.server.kubeconfig), "--context", "here")
    return await orbctl(cluster, "import", "spiderpool", *access, *arguments)


async def test_a_dry_run_of_the_import_reports_counts_and_writes_nothing(
    cluster: TranslatorHarness,
) -> None:
    before = len(await cluster.node.log())

    done = await import_spiderpool(cluster, "--dry-run", "-o", "json")

    report = json.loads(done.stdout)
    # Ten Pods, the replica, and the Pod that is gone.
    assert (done.returncode, report["endpoints"], report["addresses"]) == (0, 12, 12)
    # The only finding is about the Pod that is gone.
    assert ["gone-0" in finding["what"] for finding in report["findings"]] == [True]
    assert len(await cluster.node.log()) == before


async def test_an_import_claims_every_address_and_a_later_add_returns_it(
    cluster: TranslatorHarness,
) -> None:
    done = await import_spiderpool(cluster, "--yes")

    assert done.returncode == 0, done.stderr
    assert "verified: 12 of 12 addresses" in done.stdout
    ledger = await cluster.node.read_ledger()
    assert set(ledger.claims) == {*POD_BY_ADDRESS, *REPLICA_BY_ADDRESS, "10.6.0.30"}
    await cluster.refresh_node_view()
    # web-12 keeps its address, although the address is reserved.
    assert addresses(await cluster.node.add(pod("web-12"))) == {"10.6.0.12"}
    second_import = await import_spiderpool(cluster, "--yes")
    assert "0 changes of configuration, 0 endpoints taken over" in second_import.stdout


async def test_releases_after_the_import_are_reported_in_the_existing_objects(
    cluster: TranslatorHarness,
) -> None:
    server = cluster.server
    await import_spiderpool(cluster, "--yes")
    before = get(server, "SpiderIPPool", "lan")["metadata"]["uid"]

    def status_of(name: str = "lan") -> Any:
        return get(server, "SpiderIPPool", name).get("status", {})

    cluster.start_translator()
    await cluster.until_condition("SpiderIPPool", "lan", "Ready", "True")
    await cluster.until(lambda: status_of().get("allocatedIPCount") == len(POD_BY_ADDRESS) + 1)
    for name in ("web-10", "web-19"):
        await cluster.node.delete(pod(name))
    await cluster.until(lambda: status_of().get("allocatedIPCount") == len(POD_BY_ADDRESS) - 1)

    for name in ("web-10", "web-19"):
        path = path_of("SpiderEndpoint", name, "shop")
        await cluster.until(lambda path=path: server.request("GET", path).status == 404)  # type: ignore[misc]
    assert get(server, "SpiderIPPool", "lan")["metadata"]["uid"] == before
    assert "10.6.0.10" not in json.loads(status_of()["allocatedIPs"])
    endpoint_of_replica = get(server, "SpiderEndpoint", "db-0", "shop")
    assert endpoint_of_replica["status"]["current"]["uid"] == "uid-db-0"


async def test_the_import_refuses_and_names_an_unknown_kubeconfig_context(
    cluster: TranslatorHarness,
) -> None:
    access = ("--kubeconfig", str(cluster.server.kubeconfig), "--context", "nowhere")

    done = await orbctl(cluster, "import", "spiderpool", *access, "--dry-run")

    assert done.returncode == 2
    assert "nowhere" in done.stderr
