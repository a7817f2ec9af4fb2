"""Releases are verified at the API server: a lagging watch releases nothing (I6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeagent.kubernetes.cluster_connection import Cluster
from nodeagent.settings.values import Settings
from tests.kubernetes.agents.test_facts import NODE
from tests.kubernetes.agents.test_facts import agent as agent  # noqa: PLC0414  # a fixture
from tests.kubernetes.agents.test_facts import cluster as cluster  # noqa: PLC0414  # a fixture
from tests.kubernetes.agents.test_facts import shop as shop  # noqa: PLC0414  # a fixture
from tests.kubernetes.objects import Object
from tests.kubernetes.translator_harness import until
from tests.kubernetes.workload_objects import (
    PODS,
    create_pod,
    create_set,
    define,
    delete_pod,
    named,
    undefine,
)
from tests.kubernetes.workloads.test_fixed_addresses import (
    INSTANCES,
    MACHINES,
    create_machine,
    let_go,
    resize,
)
from tests.support.agent_harness import AgentHarness
from tests.support.kubernetes import ApiServer


@pytest.fixture(scope="module")
def kubevirt(bare_server: ApiServer) -> Iterator[None]:
    """KubeVirt's two kinds, with any fields."""
    define(bare_server, "kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
    define(bare_server, "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances")
    yield
    for plural in ("virtualmachines", "virtualmachineinstances"):
        undefine(bare_server, "kubevirt.io", "v1", plural)


async def started(
    agent: AgentHarness, server: ApiServer, name: str, owner: Object | None = None
) -> Object:
    """A Pod with its addresses."""
    pod = create_pod(server, name, NODE, owner)
    await agent.add(name, CNI_ARGS=named(pod))
    return pod


async def test_the_del_of_a_launcher_keeps_its_address_where_its_kind_is_not_served(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    instance = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
    launcher = await started(
        agent, shop, "launcher-1", instance | {"metadata": {"name": "vm-a", "uid": "uid-a"}}
    )
    shop.request("DELETE", f"{PODS}/launcher-1?gracePeriodSeconds=30")
    await until(lambda: is_ending(cluster, "launcher-1"))

    await agent.delete("launcher-1", CNI_ARGS=named(launcher))

    delete_pod(shop, "launcher-1")
    assert len(await agent.claims()) == 1


async def test_a_replica_that_was_scaled_up_unseen_keeps_its_address(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    db = create_set(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    await until(lambda: ("shop", "db") in cluster.facts.stateful_sets.objects)
    await cluster.stop_watching()
    resize(shop, "db", replicas=2)
    pod = await started(agent, shop, "db-1", db)
    delete_pod(shop, "db-1")

    await agent.delete("db-1", CNI_ARGS=named(pod))

    assert len(await agent.claims()) == 1


async def test_a_replica_whose_set_was_not_seen_yet_keeps_its_address(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    await cluster.stop_watching()
    db = create_set(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    pod = await started(agent, shop, "db-0", db)
    delete_pod(shop, "db-0")

    await agent.delete("db-0", CNI_ARGS=named(pod))
    kept = await agent.claims()
    resize(shop, "db", replicas=0)
    await agent.delete("db-0", CNI_ARGS=named(pod))

    assert len(kept) == 1
    assert not await agent.claims()


async def test_a_gc_keeps_a_replica_that_was_scaled_up_unseen(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness, settings: Settings
) -> None:
    db = create_set(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    await until(lambda: ("shop", "db") in cluster.facts.stateful_sets.objects)
    await cluster.stop_watching()
    resize(shop, "db", replicas=2)
    gone = f"{settings.socket_path.rpartition('/')[0]}/netns-of-db-1"
    pod = create_pod(shop, "db-1", NODE, db)
    await agent.add("db-1", CNI_ARGS=named(pod), CNI_NETNS=gone)

    reply = await agent.call("GC", conf=agent.netconf(**{"cni.dev/valid-attachments": []}))

    assert reply.status == 0
    assert len(await agent.claims()) == 1


async def test_without_an_answer_a_replica_that_seems_unwanted_keeps_its_address(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    db = create_set(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    pod = await started(agent, shop, "db-0", db)
    resize(shop, "db", replicas=0)
    await until(lambda: cluster.facts.stateful_sets.objects["shop", "db"].replicas == 0)
    delete_pod(shop, "db-0")
    await until(lambda: ("shop", "db-0") not in cluster.facts.pods.objects)
    shop.kill()

    await agent.delete("db-0", CNI_ARGS=named(pod))

    kept = await agent.claims()
    shop.start()
    shop.wait_served(PODS)
    assert len(kept) == 1


async def test_a_living_pod_that_an_agent_has_not_seen_yet_keeps_its_address(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness, settings: Settings
) -> None:
    """The agent has restarted, and kubelet replaces a sandbox before the first list."""
    pod = await started(agent, shop, "web")
    await cluster.stop_watching()
    cluster.facts.pods.objects.clear()
    cluster.facts._read.clear()

    await agent.delete("web", CNI_ARGS=named(pod))
    kept = await agent.claims()
    delete_pod(shop, "web")
    await agent.delete("web", CNI_ARGS=named(pod))

    assert len(kept) == 1
    assert not await agent.claims()


async def test_a_deletion_that_the_watch_has_reported_needs_no_api_server(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = await started(agent, shop, "web")
    await until(lambda: ("shop", "web") in cluster.facts.pods.objects)
    delete_pod(shop, "web")
    await until(lambda: ("shop", "web") not in cluster.facts.pods.objects)
    shop.kill()

    await agent.delete("web", CNI_ARGS=named(pod))

    left = await agent.claims()
    shop.start()
    shop.wait_served(PODS)
    assert not left


async def test_a_late_add_of_an_older_pod_takes_nothing_from_the_pod_that_has_its_name_now(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    """The agent's watch is interrupted, and kubelet creates a sandbox again."""
    older = await started(agent, shop, "web")
    await until(lambda: ("shop", "web") in cluster.facts.pods.objects)
    await cluster.stop_watching()
    delete_pod(shop, "web")
    newer = create_pod(shop, "web", NODE)
    held = await agent.add("web", CNI_ARGS=named(newer), CNI_CONTAINERID="c-newer")

    late = await agent.call("ADD", "web", CNI_ARGS=named(older), CNI_CONTAINERID="c-late")
    shop.kill()
    unanswered = await agent.call("ADD", "web", CNI_ARGS=named(older), CNI_CONTAINERID="c-late")

    shop.start()
    shop.wait_served(PODS)
    assert "does not exist any more" in late.error["msg"]
    assert unanswered.error["code"] == 11
    endpoint = await agent.endpoint("web")
    assert endpoint is not None
    assert endpoint.uid == newer["metadata"]["uid"]
    assert [f"{address}/16" for address, _ in endpoint.addresses()] == held


@pytest.mark.usefixtures("kubevirt")
async def test_the_del_of_a_vms_launcher_frees_its_address_once_the_vm_is_deleted(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    launcher = await started(agent, shop, "launcher-1", create_machine(shop, "vm-a"))
    shop.request("DELETE", f"{PODS}/launcher-1?gracePeriodSeconds=30")
    await until(lambda: is_ending(cluster, "launcher-1"))

    await agent.delete("launcher-1", CNI_ARGS=named(launcher))
    stopped = await agent.claims()
    let_go(shop, f"{MACHINES}/vm-a")
    let_go(shop, f"{INSTANCES}/vm-a")
    await agent.delete("launcher-1", CNI_ARGS=named(launcher))

    delete_pod(shop, "launcher-1")
    assert len(stopped) == 1
    assert not await agent.claims()


def is_ending(cluster: Cluster, name: str) -> bool:
    """Whether the watch has received the Pod's deletion."""
    seen = cluster.facts.pods.objects.get(("shop", name))
    return seen is not None and "deletionTimestamp" in seen["metadata"]
