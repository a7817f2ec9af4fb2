"""Slots that agents advertise to a real kubelet, and the scheduling of Pods with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.domain.selection.multus import DEFAULT_NETWORK
from tests.nodes.cloud import Cloud
from tests.nodes.kubernetes_cluster import DEVICES, KubernetesCluster
from tests.nodes.rights import CLOUD, agent_role
from tests.nodes.workloads import SHOP, asking, deployment, pod, pool, with_slots
from tests.workflows.jobs.provider.fake_provider import mac_of
from workflows.jobs.provider.client import ALLOCATE, RELEASE

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

PROVIDER = "iaasNetworkProvider: {serverUrl: 'http://192.0.2.99'}\n"
"""Without a listener and never called: these Pods are on no network of the provider."""

SUB_ENI = "sub-eni"
NODE = "node-a"


def settled(cluster: KubernetesCluster, conf: str, slots: int | None) -> None:
    """Restart a node's agent with this conf.yml, and wait until kubelet has the slots."""
    node = cluster.nodes[NODE].node
    (node.directory / "conf.yml").write_text(conf)
    node.agent.kill()
    node.start_agent()
    cluster.until(lambda: (cluster.allocatable(NODE, SUB_ENI) or None) == slots, "slots")


def made_at(socket: Path) -> int:
    """The modification time; 0: missing."""
    try:
        return socket.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def provided(running: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """A cluster with a network provider, whose slots are on one node."""
    running.apply(agent_role(CLOUD))
    settled(running, DEVICES + PROVIDER, 2)
    yield running
    settled(running, DEVICES, None)


def test_a_node_shows_as_many_slots_as_are_configured_and_a_pod_that_asks_for_them_gets_them(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    status = cluster.server.request("GET", f"/api/v1/nodes/{NODE}").body["status"]
    assert status["capacity"]["spidernet.io/sub-eni"] == "2"
    assert status["allocatable"]["spidernet.io/sub-eni"] == "2"
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))

    cluster.apply(with_slots(pod("alpha", asking("green")), SUB_ENI, 2))

    (alpha,) = cluster.running("", 1)
    assert alpha.node == NODE


def test_no_more_pods_run_than_there_are_slots_and_one_that_goes_frees_its_own(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(deployment("web", 3, asking("green")), SUB_ENI))
    cluster.until(lambda: sum(one.ready for one in cluster.pods("web")) == 2, "two Pods")
    (waiting,) = (one for one in cluster.pods("web") if not one.ready)

    messages = cluster.until(lambda: cluster.events(waiting.name), "events")

    assert "FailedScheduling" in messages
    assert "Insufficient spidernet.io/sub-eni" in messages
    assert (waiting.phase, waiting.node) == ("Pending", "")
    assert len(cluster.claims()) == 2, "who waits for a slot holds no address"
    cluster.server.kubectl("scale", "deployment", "web", "--replicas=2", "--namespace", SHOP)
    first, second = cluster.running("web", 2)
    cluster.apply(with_slots(pod("late", asking("green")), SUB_ENI))
    cluster.until(lambda: "Insufficient" in cluster.events("late"), "a Pod that waits")
    cluster.server.kubectl("scale", "deployment", "web", "--replicas=1", "--namespace", SHOP)

    cluster.until(lambda: any(one.ready for one in cluster.pods() if one.name == "late"), "late")
    assert {first.node, second.node} == {NODE}


def test_slots_come_back_with_the_agent_and_whoever_has_one_keeps_it(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    node = cluster.nodes[NODE].node
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(pod("first", asking("green")), SUB_ENI))
    (first,) = cluster.running("", 1)
    node.agent.kill()
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 0, "slots without an agent")

    node.start_agent()

    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "slots")
    cluster.apply(with_slots(pod("second", asking("green")), SUB_ENI))
    assert first in cluster.running("", 2)


def test_a_kubelet_that_starts_again_has_the_slots_again(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(with_slots(pod("first", asking("green")), SUB_ENI))
    (first,) = cluster.running("", 1)

    node = cluster.nodes[NODE]
    socket = node.plugin_socket("spiderpool-spidernet.io_sub-eni.sock")
    before = made_at(socket)
    node.restart_kubelet()

    # A kubelet fails a Pod whose resource it does not know yet. It removes our socket at its start
    # and knows the resource again when a new socket exists.
    cluster.until(lambda: made_at(socket) not in (0, before), "a new socket")
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "slots")
    cluster.apply(with_slots(deployment("web", 1, asking("green")), SUB_ENI))
    web = cluster.until(lambda: [one for one in cluster.pods("web") if one.ready], "web")
    assert web[0].node == NODE
    assert first in cluster.pods()


def test_the_number_of_slots_follows_the_labels_of_a_node(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.server.kubectl("label", "node", NODE, "size=large")
    cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 5, "more slots")

    cluster.server.kubectl("label", "node", NODE, "size-")

    assert cluster.until(lambda: cluster.allocatable(NODE, SUB_ENI) == 2, "as many as before")


def test_a_cloud_binds_what_is_scheduled_and_no_more_is_scheduled_than_it_binds(
    provided: KubernetesCluster, cluster: KubernetesCluster
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    with Cloud(cluster, slots=2) as cloud:
        cloud.network("vlan")
        on_it = asking("green") | {DEFAULT_NETWORK: f"{SHOP}/vlan"}
        cluster.until(lambda: cluster.slots_asked_for(pod("probe", on_it)) == {SUB_ENI: "1"})
        cluster.apply(deployment("web", 3, on_it))
        cluster.until(lambda: sum(one.ready for one in cluster.pods("web")) == 2, "two Pods")
        running = {one.name: one.addresses for one in cluster.pods("web") if one.ready}
        (waiting,) = (one for one in cluster.pods("web") if not one.ready)
        cluster.until(lambda: "Insufficient spidernet.io/sub-eni" in cluster.events(waiting.name))

        bound = {body["podName"]: path for path, body, _ in cloud.provider.calls}
        assert bound == dict.fromkeys(running, ALLOCATE)
        for name, (address, *_) in running.items():
            (nic,) = cluster.store_reader.read_ledger().endpoints[SHOP, name].nics
            assert (nic.mac, nic.vlan) == (mac_of(address), 100)
        cluster.server.kubectl("delete", "deployment", "web", "--namespace", SHOP)
        cluster.until(lambda: not cloud.provider.bound and not cluster.claims(), "releases")
        assert {path for path, *_ in cloud.provider.calls} == {ALLOCATE, RELEASE}


def test_pods_that_ask_for_a_nic_run_only_on_nodes_that_have_it(cluster: KubernetesCluster) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.until(lambda: cluster.allocatable("node-b", "eth1-nic") == 3, "the NIC")
    assert cluster.allocatable("node-a", "eth1-nic") is None

    cluster.apply(with_slots(deployment("web", 3, asking("green")), "eth1-nic"))

    assert {one.node for one in cluster.running("web", 3)} == {"node-b"}
    cluster.apply(with_slots(pod("nowhere", asking("green")), "eth9-nic"))
    cluster.until(lambda: "Insufficient spidernet.io/eth9-nic" in cluster.events("nowhere"))
