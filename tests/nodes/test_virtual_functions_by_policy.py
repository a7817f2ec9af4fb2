"""Virtual functions and shared RDMA devices of a simulated card, with real kubelet and Multus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

import pytest
import yaml

from core.manifests.kinds.fields import API_VERSION
from nodeagent.devices.pod_resources import pods_by_device
from tests.nodes.card_node import (
    PF_NAME,
    SHARED_RESOURCE,
    SHARING_PODS,
    VF_RESOURCE,
    CardNode,
    vf_policy,
)
from tests.nodes.guides import GUIDES_IMAGE
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.multus import (
    DEFAULT_NETWORK_ANNOTATION,
    NADS_PATH,
    NETWORKS_ANNOTATION,
    STATUS_ANNOTATION,
    Multus,
    why_missing,
)
from tests.nodes.rights import AGENT_NAMESPACE
from tests.nodes.workloads import SHOP_NAMESPACE, Object, manifest, pod, pool, with_slots

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_missing()), reason=why_missing()),
]

NODE = "node-a"
VFS = ["0000:5e:00.2", "0000:5e:00.3"]
"""The PCI addresses of the first two virtual functions."""

VF_VARIABLE = "PCIDEVICE_SPIDERNET_IO_RAIL0"
"""The environment variable with the PCI addresses of a container's virtual functions."""

POOLS = {"ippools": {"ipv4": ["green"]}}
RAIL = {"resourceName": f"spidernet.io/{VF_RESOURCE}", **POOLS}
SHARE = {"master": ["eth0"], "rdmaResourceName": f"spidernet.io/{SHARED_RESOURCE}", **POOLS}
NETWORK_SPECS = {
    "rail": {"cniType": "sriov", "sriov": RAIL},
    "share": {"cniType": "macvlan", "macvlan": SHARE},
    "lan": {"cniType": "macvlan", "macvlan": {"master": ["eth0"], **POOLS}},
}
"""SpiderMultusConfig -> its spec."""

ON_LAN = {DEFAULT_NETWORK_ANNOTATION: f"{SHOP_NAMESPACE}/lan"}
ON_RAIL = {DEFAULT_NETWORK_ANNOTATION: f"{SHOP_NAMESPACE}/rail"}


@pytest.fixture(scope="module")
def card(
    running_cluster: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CardNode]:
    archive = tmp_path_factory.mktemp("images") / "busybox.tar"
    networks = [
        manifest(API_VERSION, "SpiderMultusConfig", name, SHOP_NAMESPACE, spec=spec)
        for name, spec in NETWORK_SPECS.items()
    ]
    with Multus(running_cluster, NODE), CardNode(running_cluster, NODE, archive) as card:
        running_cluster.apply(vf_policy(len(VFS)), *networks)
        for name in NETWORK_SPECS:
            running_cluster.server.wait_served(f"{NADS_PATH}/{name}")
        yield card


@pytest.fixture
def with_virtual_functions(card: CardNode, cluster: KubernetesCluster) -> KubernetesCluster:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    until_vfs_allocatable(cluster, len(VFS))
    return cluster


def until_vfs_allocatable(cluster: KubernetesCluster, count: int) -> None:
    cluster.until(lambda: cluster.allocatable(NODE, VF_RESOURCE) == count, "virtual functions")


def pod_with_devices(
    name: str, annotations: Mapping[str, str], count: int, resource: str = VF_RESOURCE
) -> Object:
    """A Pod that requests ``count`` devices; the image has programs for ``exec_in_pod``."""
    manifest_of_pod = with_slots(pod(name, dict(annotations), node=NODE), resource, count)
    container = manifest_of_pod["spec"]["containers"][0]
    container |= {"image": GUIDES_IMAGE, "command": ["sleep", "3600"]}
    return manifest_of_pod


def exec_in_pod(cluster: KubernetesCluster, name: str, *command: str) -> list[str]:
    printed = cluster.server.kubectl("exec", "--namespace", SHOP_NAMESPACE, name, "--", *command)
    return printed.splitlines()


def pci_addresses(cluster: KubernetesCluster, name: str) -> list[str]:
    variables = dict(line.partition("=")[::2] for line in exec_in_pod(cluster, name, "env"))
    addresses = variables[VF_VARIABLE].split(",")
    assert json.loads(variables[f"{VF_VARIABLE}_INFO"]).keys() == set(addresses)
    return sorted(addresses)


def pod_by_pci_address(card: CardNode) -> dict[str, str]:
    """PCI address -> Pod, from kubelet's pod-resources API."""
    found = asyncio.run(pods_by_device(card.kubelet_root))
    assert found is not None
    return dict(found)


def devices_of_networks(cluster: KubernetesCluster, name: str) -> dict[str, tuple[str, str]]:
    """NIC -> PCI address and RDMA device, from the annotation that Multus writes."""
    api_pod = cluster.server.request("GET", f"/api/v1/namespaces/{SHOP_NAMESPACE}/pods/{name}").body
    status = json.loads(api_pod["metadata"]["annotations"][STATUS_ANNOTATION])
    infos = {nic["interface"]: nic["device-info"]["pci"] for nic in status if "device-info" in nic}
    return {nic: (info["pci-address"], info["rdma-device"]) for nic, info in infos.items()}


def sync_status(cluster: KubernetesCluster) -> str:
    (row,) = cluster.kubectl_get("sriovnetworknodestates", "--namespace", AGENT_NAMESPACE)
    assert row["NAME"] == NODE
    return row["SYNC STATUS"]


def test_pods_get_the_virtual_functions_that_kubelet_chose(
    card: CardNode, with_virtual_functions: KubernetesCluster
) -> None:
    cluster = with_virtual_functions
    cluster.apply(pod_with_devices("both", ON_LAN | {NETWORKS_ANNOTATION: "rail,rail"}, len(VFS)))
    cluster.wait_for_pods(1)

    assert pci_addresses(cluster, "both") == VFS
    # Device files 1 and 2 belong to the virtual functions; 0 belongs to the physical function.
    names = [f"{kind}{number}" for kind in ("issm", "uverbs", "umad") for number in (1, 2)]
    assert set(exec_in_pod(cluster, "both", "ls", "/dev/infiniband")) == {"rdma_cm", *names}
    assert pod_by_pci_address(card) == dict.fromkeys(VFS, f"{SHOP_NAMESPACE}/both")
    assert sorted(conf["deviceID"] for conf in card.plugin_configurations("ADD")) == VFS
    devices = devices_of_networks(cluster, "both")
    assert devices.keys() == {"net1", "net2"}
    assert set(devices.values()) == set(zip(VFS, ("mlx5_1", "mlx5_2"), strict=True))

    cluster.apply(pod_with_devices("next", ON_RAIL, 1))
    cluster.until(lambda: f"Insufficient spidernet.io/{VF_RESOURCE}" in cluster.events("next"))
    cluster.server.kubectl("delete", "pod", "both", "--namespace", SHOP_NAMESPACE, "--now")
    cluster.wait_for_pods(1)
    (device,) = pci_addresses(cluster, "next")
    assert pod_by_pci_address(card) == {device: f"{SHOP_NAMESPACE}/next"}
    assert card.plugin_configurations("ADD")[-1]["deviceID"] == device
    assert sorted(conf["deviceID"] for conf in card.plugin_configurations("DEL"))[:2] == VFS


def test_pods_share_the_rdma_device_of_the_card(
    card: CardNode, with_virtual_functions: KubernetesCluster
) -> None:
    cluster = with_virtual_functions
    cluster.until(lambda: cluster.allocatable(NODE, SHARED_RESOURCE) == SHARING_PODS, "shares")
    annotations = ON_LAN | {NETWORKS_ANNOTATION: "share"}

    for name in ("one", "two"):
        cluster.apply(pod_with_devices(name, annotations, 1, SHARED_RESOURCE))
    cluster.wait_for_pods(2)

    for name in ("one", "two"):
        files = exec_in_pod(cluster, name, "ls", "/dev/infiniband")
        assert files == ["issm0", "rdma_cm", "umad0", "uverbs0"]


@pytest.fixture
def draining_cluster(with_virtual_functions: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """The controller drains a node before the node's virtual functions change."""
    controller = with_virtual_functions.controller
    conf = controller.directory / "conf.yml"
    command = controller.process.command
    conf.write_text(yaml.safe_dump({"orbweaver": {"sriov": {"enabled": True}}}))
    controller.process.kill()
    controller.process.command = ("env", f"SPIDERPOOL_POD_NAMESPACE={AGENT_NAMESPACE}", *command)
    controller.process.start()
    yield with_virtual_functions
    conf.unlink()
    controller.process.kill()
    controller.process.command = command
    controller.process.start()
    controller.wait_following_pods()


def is_cordoned(cluster: KubernetesCluster) -> bool:
    node = cluster.server.request("GET", f"/api/v1/nodes/{NODE}").body
    return bool(node["spec"].get("unschedulable"))


def test_a_changed_policy_evicts_only_pods_that_use_virtual_functions(
    card: CardNode, draining_cluster: KubernetesCluster
) -> None:
    cluster = draining_cluster
    cluster.apply(pod_with_devices("evicted", ON_RAIL, 1))
    cluster.apply(pod_with_devices("bystander", ON_LAN, 1, SHARED_RESOURCE))
    cluster.wait_for_pods(2)

    cluster.apply(vf_policy(vfs=4))
    cluster.until(lambda: is_cordoned(cluster), "the cordon")
    cluster.until(lambda: [pod.name for pod in cluster.pods()] == ["bystander"], "the eviction")
    until_vfs_allocatable(cluster, 4)
    cluster.until(lambda: not is_cordoned(cluster), "the end of the cordon")

    assert sync_status(cluster) == "Succeeded"
    (nic,) = card.state()["status"]["interfaces"]
    assert nic["numVfs"] == 4
    cluster.delete_pods()
    cluster.apply(vf_policy(len(VFS)))
    until_vfs_allocatable(cluster, len(VFS))


def test_pods_keep_their_virtual_functions_and_delay_a_policy_change(
    card: CardNode, with_virtual_functions: KubernetesCluster
) -> None:
    cluster = with_virtual_functions
    (nic,) = card.state()["status"]["interfaces"]
    # The card can have 8 virtual functions; the policy sets 2 functions and the MTU.
    assert (nic["name"], nic["totalvfs"], nic["numVfs"], nic["mtu"]) == (PF_NAME, 8, 2, 4_000)
    assert [vf["pciAddress"] for vf in nic["Vfs"]] == VFS
    cluster.apply(pod_with_devices("first", ON_RAIL, 1))
    cluster.wait_for_pods(1)
    (first,) = pci_addresses(cluster, "first")

    card.restart_agent()
    until_vfs_allocatable(cluster, len(VFS))
    cluster.apply(pod_with_devices("second", ON_RAIL, 1))
    cluster.wait_for_pods(2)
    (second,) = set(VFS) - {first}
    assert pci_addresses(cluster, "second") == [second]
    assert pod_by_pci_address(card) == {
        first: f"{SHOP_NAMESPACE}/first",
        second: f"{SHOP_NAMESPACE}/second",
    }

    cluster.apply(vf_policy(vfs=4))
    until_vfs_allocatable(cluster, 0)
    cluster.until(lambda: sync_status(cluster) == "InProgress", "a delayed change")
    reason = (
        f"virtual functions to remove are used by {SHOP_NAMESPACE}/first, {SHOP_NAMESPACE}/second"
    )
    assert reason in card.state()["status"]["lastSyncError"]
    cluster.delete_pods()
    until_vfs_allocatable(cluster, 4)
    cluster.until(lambda: sync_status(cluster) == "Succeeded", "the change")
