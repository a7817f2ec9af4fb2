"""Slots limit how many Pods the scheduler places on a node.

A slot is a unit of an extended resource. A ``sub-eni`` slot permits one address that a network
provider binds. An ``eth1-nic`` slot permits one Pod on the NIC eth1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.domain.selection.multus import DEFAULT_NETWORK
from tests.nodes.cloud import Cloud
from tests.nodes.kubernetes_cluster import CONF_WITH_DEVICE_PLUGIN, KubernetesCluster
from tests.nodes.rights import CLOUD_CHART, agent_role
from tests.nodes.workloads import (
    SHOP_NAMESPACE,
    annotated_with_pool,
    deployment,
    pod,
    pool,
    with_slots,
)
from tests.workflows.jobs.provider.fake_provider import mac_of
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

PROVIDER_CONF = "iaasNetworkProvider: {serverUrl: 'http://192.0.2.99'}\n"
"""Makes the agent advertise ``sub-eni`` slots; agents do not call the URL."""

SUB_ENI = "sub-eni"
NODE = "node-a"


def restart_agent_until_slots(cluster: KubernetesCluster, conf: str, slots: int | None) -> None:
    """Restart the agent, and wait until the node has ``slots`` slots; None for no such resource."""
    node = cluster.nodes[NODE].node
    (node.directory / "conf.yml").write_text(conf)
    node.agent.kill()
    node.start_agent()
    cluster.until(lambda: (cluster.allocatable(NODE, SUB_ENI) or None) == slots, "slots")


def change_time_ns(socket: Path) -> int:
    """The time of the socket's last change; 0 if the socket does not exist."""
    try:
        return socket.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def with_provider(running_cluster: KubernetesCluster) -> Iterator[KubernetesCluster]:
    running_cluster.apply(agent_role(CLOUD_CHART))
    restart_agent_until_slots(running_cluster, CONF_WITH_DEVICE_PLUGIN + PROVIDER_CONF, slots=2)
    yield running_cluster
    restart_agent_until_slots(running_cluster, CONF_WITH_DEVICE_PLUGIN, slots=None)


def test_a_node_advertises_slots_and_runs_a_pod_that_requests_slots(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    status = cluster.server.request("GET", f"/api/v1/nodes/{NODE}").body["status"]
    assert status["capacity"]["spidernet.io/sub-eni"] == "2"
    assert status["allocatable"]["spidernet.io/sub-eni"] == "2"
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))

    cluster.apply(with_slots(pod("alpha", annotated_with_pool("green")), SUB_ENI, 2))

    (alpha,) = cluster.wait_for_pods(1)
    assert alpha.node == NODE


def test_slots_limit_the_number_of_pods_and_a_deleted_pod_releases_its_slot(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(deployment("web", 3, annotated_with_pool("green")), SUB_ENI))
    cluster.until(lambda: sum(web.ready for web in cluster.pods("web")) == 2, "two Pods")
    (waiting_pod,) = (web for web in cluster.pods("web") if not web.ready)

    messages = cluster.until(lambda: cluster.events(waiting_pod.name), "events")

    assert "FailedScheduling" in messages
    assert "Insufficient spidernet.io/sub-eni" in messages
    assert (waiting_pod.phase, waiting_pod.node) == ("Pending", "")
    assert len(cluster.claims()) == 2, "the waiting Pod must not hold an address"
    cluster.server.kubectl(
        "scale", "deployment", "web", "--replicas=2", "--namespace", SHOP_NAMESPACE
    )
    first, second = cluster.wait_for_pods(2, app="web")
    cluster.apply(with_slots(pod("late", annotated_with_pool("green")), SUB_ENI))
    cluster.until(lambda: "Insufficient" in cluster.events("late"), "an event of the waiting Pod")
    cluster.server.kubectl(
        "scale", "deployment", "web", "--replicas=1", "--namespace", SHOP_NAMESPACE
    )

    cluster.until(
        lambda: any(found.ready for found in cluster.pods() if found.name == "late"),
        "the Pod late",
    )
    assert {first.node, second.node} == {NODE}


def test_a_restarted_agent_advertises_the_slots_again_and_pods_keep_running(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    node = cluster.nodes[NODE].node
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(pod("first", annotated_with_pool("green")), SUB_ENI))
    (first,) = cluster.wait_for_pods(1)
    node.agent.kill()
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 0, "slots without an agent")

    node.start_agent()

    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "slots")
    cluster.apply(with_slots(pod("second", annotated_with_pool("green")), SUB_ENI))
    assert first in cluster.wait_for_pods(2)


def test_a_restarted_kubelet_advertises_the_slots_again(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(pod("first", annotated_with_pool("green")), SUB_ENI))
    (first,) = cluster.wait_for_pods(1)

    node = cluster.nodes[NODE]
    socket = node.plugin_socket("spiderpool-spidernet.io_sub-eni.sock")
    before = change_time_ns(socket)
    node.restart_kubelet()

    # A restarted kubelet removes the agent's socket, and rejects Pods until the agent registers
    # again.
    cluster.until(lambda: change_time_ns(socket) not in (0, before), "a new socket")
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "slots")
    cluster.apply(with_slots(deployment("web", 1, annotated_with_pool("green")), SUB_ENI))
    (web,) = cluster.until(lambda: [web for web in cluster.pods("web") if web.ready], "web")
    assert web.node == NODE
    assert first in cluster.pods()


def test_the_number_of_slots_follows_the_labels_of_a_node(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.server.kubectl("label", "node", NODE, "size=large")
    # CONF_WITH_DEVICE_PLUGIN has 5 slots for nodes with size=large, and 2 slots for other nodes.
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 5, "more slots")

    cluster.server.kubectl("label", "node", NODE, "size-")

    assert cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "two slots again")


def test_the_network_provider_binds_addresses_of_exactly_the_pods_that_have_slots(
    with_provider: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    with Cloud(cluster, slots=2) as cloud:
        cloud.create_network("vlan")
        annotations = annotated_with_pool("green") | {DEFAULT_NETWORK: f"{SHOP_NAMESPACE}/vlan"}
        # Wait until the webhook adds a slot to Pods of the new network.
        cluster.until(lambda: cluster.requested_slots(pod("probe", annotations)) == {SUB_ENI: "1"})
        cluster.apply(deployment("web", 3, annotations))
        cluster.until(lambda: sum(web.ready for web in cluster.pods("web")) == 2, "two Pods")
        addresses_of_pod = {web.name: web.addresses for web in cluster.pods("web") if web.ready}
        (waiting_pod,) = (web for web in cluster.pods("web") if not web.ready)
        cluster.until(
            lambda: "Insufficient spidernet.io/sub-eni" in cluster.events(waiting_pod.name)
        )

        # A sandbox that a slow kubelet creates again is released and bound once more.
        addresses = {address for address, *_ in addresses_of_pod.values()}
        cluster.until(lambda: set(cloud.provider.bound) == addresses, f"bindings of {addresses}")
        assert {body["podName"] for _, body, _ in cloud.provider.calls} == set(addresses_of_pod)
        for name, (address, *_) in addresses_of_pod.items():
            (nic,) = cluster.store_reader.read_ledger().endpoints[SHOP_NAMESPACE, name].nics
            assert (nic.mac, nic.vlan) == (mac_of(address), 100)  # the fake provider's reply
        cluster.server.kubectl("delete", "deployment", "web", "--namespace", SHOP_NAMESPACE)
        cluster.until(lambda: not cloud.provider.bound and not cluster.claims(), "releases")
        assert {path for path, *_ in cloud.provider.calls} == {ALLOCATE_PATH, RELEASE_PATH}


def test_pods_that_request_a_nic_run_only_on_nodes_with_this_nic(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    # Only node-b has an eth1; CONF_WITH_DEVICE_PLUGIN has 3 slots for this NIC.
    cluster.until(lambda: cluster.allocatable("node-b", "eth1-nic") == 3, "the NIC")
    assert cluster.allocatable("node-a", "eth1-nic") is None

    cluster.apply(with_slots(deployment("web", 3, annotated_with_pool("green")), "eth1-nic"))

    assert {web.node for web in cluster.wait_for_pods(3, app="web")} == {"node-b"}
    cluster.apply(with_slots(pod("nowhere", annotated_with_pool("green")), "eth9-nic"))
    cluster.until(lambda: "Insufficient spidernet.io/eth9-nic" in cluster.events("nowhere"))
