"""``orbctl import`` takes over the addresses of Pods from Whereabouts, Calico or host-local."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from core.domain.model import pod_holder
from core.manifests.foreign.ipam_configurations import NETWORK_KIND
from core.manifests.foreign.pods import NETWORK_STATUS
from tests.kubernetes.objects import Object
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.kubernetes.workload_objects import (
    PODS_PATH,
    create_pod,
    define_kind,
    delete_pod,
    set_status,
    undefine_kind,
)
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import check_everything

WHEREABOUTS: Final = "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system"
CALICO: Final = "/apis/crd.projectcalico.org/v1"
NETWORKS: Final = "/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions"
NODE: Final = "node-a"
MISSING_POD: Final = {"podref": "shop/gone-0"}
"""An allocation of Whereabouts to a Pod that does not exist."""


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """An Orbweaver cluster without pools; no controller of Orbweaver runs."""
    async with TranslatorHarness(server, translates=False) as cluster:
        yield cluster
        await check_everything(cluster.node)


@pytest.fixture
def pods(server: ApiServer) -> Iterator[dict[str, Object]]:
    pods = {name: create_pod(server, name, NODE) for name in ("web-0", "web-1")}
    yield pods
    for name in pods:
        delete_pod(server, name)


def create_object(server: ApiServer, collection: str, body: Object) -> None:
    answer = server.request("POST", collection, body)
    assert answer.status == 201, answer.message


def write_address_to_pod(server: ApiServer, name: str, interface: str, address: str) -> None:
    """Write the address into a Pod, as Multus (annotation) and kubelet (status) do."""
    status = [{"name": "lan", "interface": interface, "ips": [address]}]
    annotations = {"metadata": {"annotations": {NETWORK_STATUS: json.dumps(status)}}}
    answer = server.request("PATCH", f"{PODS_PATH}/{name}", annotations, content=MERGE_PATCH)
    assert answer.status == 200, answer.message
    set_status(server, name, phase="Running", podIPs=[{"ip": address}], podIP=address)


def resource_versions(server: ApiServer, pods: dict[str, Object]) -> dict[str, str]:
    """Name -> resourceVersion, which changes with every write to the Pod."""
    paths = {name: f"{PODS_PATH}/{name}" for name in pods}
    return {
        name: server.request("GET", path).body["metadata"]["resourceVersion"]
        for name, path in paths.items()
    }


async def run_import(
    cluster: TranslatorHarness, system: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    server = cluster.server
    options = ["--etcd", ",".join(server.etcd_endpoints), "--cluster", cluster.keys.cluster]
    access = ["--kubeconfig", str(server.kubeconfig), "--context", "here"]
    command = [sys.executable, "-m", "ops.cli.main", *options, "import", system, *access]
    return await asyncio.to_thread(
        subprocess.run, [*command, *arguments], check=False, capture_output=True, text=True
    )


async def import_and_check(
    cluster: TranslatorHarness, system: str, pods: dict[str, Object], *arguments: str
) -> Any:
    """Run a dry run and two imports; return the plan of the dry run."""
    before = await asyncio.to_thread(resource_versions, cluster.server, pods)
    events = len(await cluster.node.log())
    planned = await run_import(cluster, system, *arguments, "--dry-run", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    assert len(await cluster.node.log()) == events

    done = await run_import(cluster, system, *arguments, "--yes")
    assert done.returncode == 0, done.stderr
    assert "verified: 2 of 2 addresses" in done.stdout
    second_import = await run_import(cluster, system, *arguments, "--yes")
    assert "0 changes of configuration, 0 endpoints taken over" in second_import.stdout
    assert await asyncio.to_thread(resource_versions, cluster.server, pods) == before
    return json.loads(planned.stdout)


async def claims_of(cluster: TranslatorHarness) -> dict[str, tuple[str, str]]:
    """Claimed address -> (name of the Pod, holder of the address)."""
    claims = (await cluster.node.read_ledger()).claims
    return {
        address: (revised.claim.pod, revised.claim.holder) for address, revised in claims.items()
    }


def expected_claims(pods: dict[str, Object], *addresses: str) -> dict[str, tuple[str, str]]:
    """The claims after an import; ``addresses`` are in the order of the Pods."""
    return {
        address: (name, pod_holder(body["metadata"]["uid"]))
        for address, (name, body) in zip(addresses, pods.items(), strict=True)
    }


async def test_pods_keep_the_addresses_of_whereabouts(
    cluster: TranslatorHarness, server: ApiServer, pods: dict[str, Object]
) -> None:
    group = "whereabouts.cni.cncf.io", "v1alpha1"
    kinds = {"IPPool": "ippools", "OverlappingRangeIPReservation": "overlappingrangeipreservations"}

    def create_objects() -> None:
        for kind, plural in kinds.items():
            define_kind(server, *group, kind, plural)
        define_kind(server, "k8s.cni.cncf.io", "v1", NETWORK_KIND, "network-attachment-definitions")
        ipam = {"type": "whereabouts", "range": "10.6.0.0/24", "gateway": "10.6.0.1"}
        config: Object = {"type": "macvlan", "ipam": ipam | {"range_end": "10.6.0.12"}}
        spec = {"config": json.dumps(config)}
        network: Object = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": NETWORK_KIND}
        create_object(server, NETWORKS, network | {"metadata": {"name": "lan"}, "spec": spec})
        allocations = {
            "10": {"podref": "shop/web-0"},
            "11": {"podref": "shop/web-1"},
            "9": MISSING_POD,
        }
        _create_whereabouts_object(
            server, "IPPool", "10.6.0.0-24", {"range": "10.6.0.0/24", "allocations": allocations}
        )
        for number in (9, 10, 11):
            reservation = {"containerid": f"c{number}", "podref": "shop/web-0"}
            name = f"10.6.0.{number}"
            _create_whereabouts_object(server, "OverlappingRangeIPReservation", name, reservation)
        for number, name in ((10, "web-0"), (11, "web-1")):
            write_address_to_pod(server, name, "net1", f"10.6.0.{number}")

    await asyncio.to_thread(create_objects)
    try:
        plan = await import_and_check(cluster, "whereabouts", pods)
        # The only finding is about the address of the Pod that does not exist.
        assert ["10.6.0.9" in finding["what"] for finding in plan["findings"]] == [True]
        assert await claims_of(cluster) == expected_claims(pods, "10.6.0.10", "10.6.0.11")
        (pool,) = (await cluster.node.read_ledger()).pools.values()
        assert (pool.subnet, pool.gateway) == ("10.6.0.0/24", "10.6.0.1")
    finally:
        for plural in kinds.values():
            await asyncio.to_thread(undefine_kind, server, *group, plural)
        await asyncio.to_thread(server.request, "DELETE", f"{NETWORKS}/lan")


def _create_whereabouts_object(server: ApiServer, kind: str, name: str, spec: Object) -> None:
    body: Object = {"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": kind}
    path = f"{WHEREABOUTS}/{kind.lower()}s"
    create_object(server, path, body | {"metadata": {"name": name}, "spec": spec})


async def test_pods_keep_the_addresses_of_calico(
    cluster: TranslatorHarness, server: ApiServer, pods: dict[str, Object]
) -> None:
    group = "crd.projectcalico.org", "v1"

    def create_objects() -> None:
        define_kind(server, *group, "IPPool", "ippools", scope="Cluster")
        define_kind(server, *group, "IPAMBlock", "ipamblocks", scope="Cluster")
        pools: Object = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool"}
        spec = {"cidr": "10.6.0.0/24", "blockSize": 29, "ipipMode": "Always"}
        create_object(
            server, f"{CALICO}/ippools", pools | {"metadata": {"name": "lan"}, "spec": spec}
        )
        attributes = [
            {
                "handle_id": f"k8s-pod-network.{name}",
                "secondary": {"namespace": "shop", "pod": name, "node": NODE},
            }
            for name in pods
        ]
        tunnel = {"handle_id": f"ipip-tunnel-addr-{NODE}", "secondary": {"node": NODE}}
        block = {
            "cidr": "10.6.0.64/29",
            "affinity": f"host:{NODE}",
            # For each offset in the block: the index in ``attributes``.
            "allocations": [2, 0, 1, None, None, None, None, None],
            "attributes": [*attributes, tunnel],
            "unallocated": [3, 4, 5, 6, 7],
        }
        blocks: Object = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock"}
        block_fields = {"metadata": {"name": "10-6-0-64-29"}, "spec": block}
        create_object(server, f"{CALICO}/ipamblocks", blocks | block_fields)
        for number, name in ((65, "web-0"), (66, "web-1")):
            set_status(server, name, phase="Running", podIP=f"10.6.0.{number}")

    await asyncio.to_thread(create_objects)
    try:
        await import_and_check(cluster, "calico", pods)
        assert await claims_of(cluster) == expected_claims(pods, "10.6.0.65", "10.6.0.66")
        (reservation,) = (await cluster.node.read_ledger()).reservations.values()
        assert reservation.ips == ("10.6.0.64",)  # the address of the node's tunnel
    finally:
        for path in (f"{CALICO}/ippools/lan", f"{CALICO}/ipamblocks/10-6-0-64-29"):
            await asyncio.to_thread(server.request, "DELETE", path)


async def test_pods_keep_the_addresses_in_the_files_of_host_local(
    cluster: TranslatorHarness, server: ApiServer, pods: dict[str, Object], tmp_path: Path
) -> None:
    configurations = tmp_path / NODE / "etc" / "cni" / "net.d"
    files = tmp_path / NODE / "var" / "lib" / "cni" / "networks" / "bridge"
    configurations.mkdir(parents=True)
    files.mkdir(parents=True)
    ranges = [[{"subnet": "10.6.1.0/24", "rangeStart": "10.6.1.10"}]]
    plugin = {"type": "bridge", "ipam": {"type": "host-local", "ranges": ranges}}
    network = {"cniVersion": "1.0.0", "name": "bridge", "plugins": [plugin]}
    (configurations / "10-bridge.conflist").write_text(json.dumps(network))
    for number in (10, 11, 12):
        (files / f"10.6.1.{number}").write_text(f"container-{number}\r\neth0")
    (files / "last_reserved_ip.0").write_text("10.6.1.12")

    def create_objects() -> None:
        create_object(server, "/api/v1/nodes", {"metadata": {"name": NODE}})
        for number, name in ((10, "web-0"), (11, "web-1")):
            address = f"10.6.1.{number}"
            set_status(server, name, phase="Running", podIP=address, podIPs=[{"ip": address}])

    await asyncio.to_thread(create_objects)
    try:
        plan = await import_and_check(cluster, "host-local", pods, "--nodes", str(tmp_path))
        # The only finding is about the address that no Pod has.
        assert ["10.6.1.12" in finding["what"] for finding in plan["findings"]] == [True]
        assert await claims_of(cluster) == expected_claims(pods, "10.6.1.10", "10.6.1.11")
    finally:
        await asyncio.to_thread(server.request, "DELETE", f"/api/v1/nodes/{NODE}")
