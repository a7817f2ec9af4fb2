"""An agent releases no address of a Pod or replica that may still exist.

This is invariant I6 of docs/contributing/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeagent.cni_protocol.failures import TRY_AGAIN_LATER
from nodeagent.kubernetes.cluster_connection import Cluster
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.agents.test_facts import NODE_NAME
from tests.kubernetes.agents.test_facts import agent as agent  # noqa: PLC0414  # a fixture
from tests.kubernetes.agents.test_facts import cluster as cluster  # noqa: PLC0414  # a fixture
from tests.kubernetes.agents.test_facts import shop as shop  # noqa: PLC0414  # a fixture
from tests.kubernetes.objects import Object
from tests.kubernetes.translator_harness import until
from tests.kubernetes.workload_objects import (
    PODS_PATH,
    cni_args_of,
    create_pod,
    create_workload,
    define_kind,
    delete_pod,
    undefine_kind,
)
from tests.kubernetes.workloads.test_fixed_addresses import (
    INSTANCES_PATH,
    MACHINES_PATH,
    create_machine,
    delete_and_remove_finalizers,
    patch_statefulset,
)
from tests.support.agent_harness import AgentHarness
from tests.support.kubernetes import ApiServer


@pytest.fixture(scope="module")
def kubevirt(bare_server: ApiServer) -> Iterator[None]:
    define_kind(bare_server, "kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
    define_kind(
        bare_server, "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances"
    )
    yield
    for plural in ("virtualmachines", "virtualmachineinstances"):
        undefine_kind(bare_server, "kubevirt.io", "v1", plural)


async def create_pod_with_address(
    agent: AgentHarness, server: ApiServer, name: str, owner: Object | None = None
) -> Object:
    pod = create_pod(server, name, NODE_NAME, owner)
    await agent.add(name, CNI_ARGS=cni_args_of(pod))
    return pod


async def test_a_launcher_keeps_its_address_while_the_vmi_kind_is_not_served(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    """A launcher is the Pod of a VirtualMachineInstance (VMI)."""
    instance = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
    launcher = await create_pod_with_address(
        agent, shop, "launcher-1", instance | {"metadata": {"name": "vm-a", "uid": "uid-a"}}
    )
    shop.request("DELETE", f"{PODS_PATH}/launcher-1?gracePeriodSeconds=30")
    await until(lambda: is_in_deletion(cluster, "launcher-1"))

    await agent.delete("launcher-1", CNI_ARGS=cni_args_of(launcher))

    delete_pod(shop, "launcher-1")
    assert len(await agent.claims()) == 1


async def test_a_del_keeps_a_replicas_address_when_the_watch_missed_the_scale_up(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    db = create_workload(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    await until(lambda: ("shop", "db") in cluster.facts.stateful_sets.objects)
    await cluster.stop_watching()
    patch_statefulset(shop, "db", replicas=2)
    pod = await create_pod_with_address(agent, shop, "db-1", db)
    delete_pod(shop, "db-1")

    await agent.delete("db-1", CNI_ARGS=cni_args_of(pod))

    assert len(await agent.claims()) == 1


async def test_a_del_releases_an_address_only_after_an_unwatched_statefulset_shrinks(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    await cluster.stop_watching()
    db = create_workload(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    pod = await create_pod_with_address(agent, shop, "db-0", db)
    delete_pod(shop, "db-0")

    await agent.delete("db-0", CNI_ARGS=cni_args_of(pod))
    claims_before = await agent.claims()
    patch_statefulset(shop, "db", replicas=0)
    await agent.delete("db-0", CNI_ARGS=cni_args_of(pod))

    assert len(claims_before) == 1
    assert not await agent.claims()


async def test_a_gc_keeps_a_replicas_address_when_the_watch_missed_the_scale_up(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness, settings: Settings
) -> None:
    db = create_workload(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    await until(lambda: ("shop", "db") in cluster.facts.stateful_sets.objects)
    await cluster.stop_watching()
    patch_statefulset(shop, "db", replicas=2)
    # A GC releases attachments whose network namespace does not exist.
    missing_netns = f"{settings.socket_path.rpartition('/')[0]}/netns-of-db-1"
    pod = create_pod(shop, "db-1", NODE_NAME, db)
    await agent.add("db-1", CNI_ARGS=cni_args_of(pod), CNI_NETNS=missing_netns)

    reply = await agent.call("GC", conf=agent.netconf(**{"cni.dev/valid-attachments": []}))

    assert reply.status == 0
    assert len(await agent.claims()) == 1


async def test_a_surplus_replica_keeps_its_address_while_the_api_server_is_down(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    db = create_workload(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    pod = await create_pod_with_address(agent, shop, "db-0", db)
    patch_statefulset(shop, "db", replicas=0)
    await until(lambda: cluster.facts.stateful_sets.objects["shop", "db"].replicas == 0)
    delete_pod(shop, "db-0")
    await until(lambda: ("shop", "db-0") not in cluster.facts.pods.objects)
    shop.kill()

    await agent.delete("db-0", CNI_ARGS=cni_args_of(pod))

    claims = await agent.claims()
    shop.start()
    shop.wait_served(PODS_PATH)
    assert len(claims) == 1


async def test_an_uncached_pod_keeps_its_address_until_the_pod_is_deleted(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness, settings: Settings
) -> None:
    """A restarted agent can receive a DEL before it has listed the Pods."""
    pod = await create_pod_with_address(agent, shop, "web")
    await cluster.stop_watching()
    cluster.facts.pods.objects.clear()
    cluster.facts._undelivered_pods.clear()  # the cache of Pods that were read one by one

    await agent.delete("web", CNI_ARGS=cni_args_of(pod))
    claims_before = await agent.claims()
    delete_pod(shop, "web")
    await agent.delete("web", CNI_ARGS=cni_args_of(pod))

    assert len(claims_before) == 1
    assert not await agent.claims()


async def test_a_del_releases_an_address_during_an_outage_if_the_deletion_was_watched(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = await create_pod_with_address(agent, shop, "web")
    await until(lambda: ("shop", "web") in cluster.facts.pods.objects)
    delete_pod(shop, "web")
    await until(lambda: ("shop", "web") not in cluster.facts.pods.objects)
    shop.kill()

    await agent.delete("web", CNI_ARGS=cni_args_of(pod))

    claims = await agent.claims()
    shop.start()
    shop.wait_served(PODS_PATH)
    assert not claims


async def test_a_late_add_of_a_deleted_pod_is_refused_when_its_name_is_reused(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    older = await create_pod_with_address(agent, shop, "web")
    await until(lambda: ("shop", "web") in cluster.facts.pods.objects)
    await cluster.stop_watching()
    delete_pod(shop, "web")
    newer = create_pod(shop, "web", NODE_NAME)
    new_addresses = await agent.add("web", CNI_ARGS=cni_args_of(newer), CNI_CONTAINERID="c-newer")

    late_reply = await agent.call(
        "ADD", "web", CNI_ARGS=cni_args_of(older), CNI_CONTAINERID="c-late"
    )
    shop.kill()
    without_api_server = await agent.call(
        "ADD", "web", CNI_ARGS=cni_args_of(older), CNI_CONTAINERID="c-late"
    )

    shop.start()
    shop.wait_served(PODS_PATH)
    assert "does not exist any more" in late_reply.error["msg"]
    assert without_api_server.error["code"] == TRY_AGAIN_LATER
    endpoint = await agent.endpoint("web")
    assert endpoint is not None
    assert endpoint.uid == newer["metadata"]["uid"]
    assert [f"{address}/16" for address, _ in endpoint.addresses()] == new_addresses


@pytest.mark.usefixtures("kubevirt")
async def test_a_launcher_keeps_its_address_until_the_vm_is_deleted(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    launcher = await create_pod_with_address(
        agent, shop, "launcher-1", create_machine(shop, "vm-a")
    )
    shop.request("DELETE", f"{PODS_PATH}/launcher-1?gracePeriodSeconds=30")
    await until(lambda: is_in_deletion(cluster, "launcher-1"))

    await agent.delete("launcher-1", CNI_ARGS=cni_args_of(launcher))
    claims_while_vm_exists = await agent.claims()
    delete_and_remove_finalizers(shop, f"{MACHINES_PATH}/vm-a")
    delete_and_remove_finalizers(shop, f"{INSTANCES_PATH}/vm-a")
    await agent.delete("launcher-1", CNI_ARGS=cni_args_of(launcher))

    delete_pod(shop, "launcher-1")
    assert len(claims_while_vm_exists) == 1
    assert not await agent.claims()


def is_in_deletion(cluster: Cluster, name: str) -> bool:
    cached = cluster.facts.pods.objects.get(("shop", name))
    return cached is not None and "deletionTimestamp" in cached["metadata"]
