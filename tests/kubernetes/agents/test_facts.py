"""An agent reads facts about Pods from its cache, or else from the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from core.domain.model import Owner, pod_holder
from core.eventstore.memory_store import MemoryStore
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.workloads.pods import is_alive
from nodeagent.cni_protocol.failures import TRY_AGAIN_LATER
from nodeagent.kubernetes.cluster_connection import Cluster, connect_cluster
from nodeagent.kubernetes.cluster_pod_facts import KubernetesFactsSource
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.objects import Object
from tests.kubernetes.translator_harness import until
from tests.kubernetes.workload_objects import (
    COLLECTION_PATHS,
    PODS_PATH,
    cni_args_of,
    create_pod,
    create_workload,
    delete_pod,
    delete_workloads,
)
from tests.support.agent_harness import AgentHarness, running
from tests.support.http_caller import HttpReply, over_socket
from tests.support.kubernetes import MERGE_PATCH, ApiServer

NODE_NAME = "node-1"
POOL_BLUE = {"ipam.spidernet.io/ippool": json.dumps({"ipv4": ["blue"]})}


@pytest.fixture
def shop(server: ApiServer) -> ApiServer:
    delete_workloads(server)
    node = {"metadata": {"name": NODE_NAME, "labels": {"rack": "r1"}}}
    server.request("POST", "/api/v1/nodes", node)
    return server


@pytest.fixture
async def cluster(shop: ApiServer, settings: Settings) -> AsyncIterator[Cluster]:
    connection = await connect_cluster(settings._replace(kubeconfig=str(shop.kubeconfig)))
    assert connection is not None
    facts = connection.facts
    async with asyncio.timeout(30):
        for informer in (facts.pods, facts.namespaces, facts.stateful_sets):
            await informer.listed.wait()
    yield connection
    await connection.close()


@pytest.fixture
async def agent(cluster: Cluster, settings: Settings) -> AsyncIterator[AgentHarness]:
    async with running(settings, MemoryStore(), facts=cluster.facts) as harness:
        await harness.pool("green", "10.6.0.0/16", "10.6.1.1-10.6.1.9")
        await harness.pool("blue", "10.6.0.0/16", "10.6.2.1-10.6.2.9", default=False)
        yield harness


def as_owner(body: Object) -> Owner:
    metadata = body["metadata"]
    return Owner(body["kind"], metadata["name"], "shop", body["apiVersion"], metadata["uid"])


async def until_cached(cluster: Cluster, name: str) -> None:
    await until(lambda: ("shop", name) in cluster.facts.pods.objects)


def is_in_deletion(cluster: Cluster, name: str) -> bool:
    cached = cluster.facts.pods.objects.get(("shop", name))
    return cached is not None and not is_alive(cached)


async def until_uncached(cluster: Cluster, name: str) -> None:
    await until(lambda: ("shop", name) not in cluster.facts.pods.objects)


async def test_the_annotation_of_a_pod_chooses_its_pool(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    plain = create_pod(shop, "plain", NODE_NAME)
    annotated = create_pod(shop, "annotated", NODE_NAME, annotations=POOL_BLUE)

    (first,) = await agent.add("plain", CNI_ARGS=cni_args_of(plain))
    (second,) = await agent.add("annotated", CNI_ARGS=cni_args_of(annotated))

    assert first.startswith("10.6.1.")
    assert second.startswith("10.6.2.")
    endpoint = await agent.endpoint("annotated")
    assert endpoint is not None
    uid = annotated["metadata"]["uid"]
    assert (endpoint.uid, endpoint.holder, endpoint.node) == (uid, pod_holder(uid), NODE_NAME)
    assert (endpoint.owner_kind, endpoint.owner_name) == ("Pod", "annotated")


async def test_the_annotation_of_a_namespace_chooses_pools(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    key = "ipam.spidernet.io/default-ipv4-ippool"
    annotated = {"metadata": {"annotations": {key: '["blue"]'}}}
    shop.request("PATCH", "/api/v1/namespaces/shop", annotated, content=MERGE_PATCH)
    await until(lambda: key in cluster.facts._namespace("shop").annotations)

    (address,) = await agent.add("web", CNI_ARGS=cni_args_of(create_pod(shop, "web", NODE_NAME)))

    without_annotation = {"metadata": {"annotations": {key: None}}}
    shop.request("PATCH", "/api/v1/namespaces/shop", without_annotation, content=MERGE_PATCH)
    assert address.startswith("10.6.2.")


async def test_a_pod_missing_from_the_cache_is_read_from_the_api_server(
    shop: ApiServer, settings: Settings
) -> None:
    api = Api(await open_connection(str(shop.kubeconfig)))
    facts = KubernetesFactsSource(api, NODE_NAME, settings.fixed_addresses)
    pod = create_pod(shop, "early", NODE_NAME, annotations=POOL_BLUE)

    async with running(settings, MemoryStore(), facts=facts) as node:
        await node.pool("blue", "10.6.0.0/16", "10.6.2.1", default=False)
        addresses = await node.add("early", CNI_ARGS=cni_args_of(pod))

    await api.close()
    assert (addresses, facts.reads) == (["10.6.2.1/16"], 1)


async def test_an_add_of_a_pod_that_does_not_exist_is_refused(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    reply = await agent.call("ADD", "ghost")

    assert "there is no Pod shop/ghost" in reply.error["msg"] + reply.error["details"]
    assert not await agent.claims()


async def test_coordinator_settings_are_served_only_for_a_pod_that_exists(
    shop: ApiServer, settings: Settings
) -> None:
    api = Api(await open_connection(str(shop.kubeconfig)))
    facts = KubernetesFactsSource(api, NODE_NAME, settings.fixed_addresses)
    create_pod(
        shop, "early", NODE_NAME, annotations={"ipam.spidernet.io/default-route-nic": "net1"}
    )

    async with running(settings, MemoryStore(), facts=facts) as node:

        async def configuration(name: str) -> HttpReply:
            body = {"podName": name, "podNamespace": "shop"}
            return await over_socket(
                node.process.settings.socket_path, "GET", "/v1/coordinator/config", body
            )

        known, unknown = await configuration("early"), await configuration("ghost")

    await api.close()
    assert known.json["podDefaultRouteNIC"] == "net1"
    assert (unknown.status, unknown.json) == (500, "there is no Pod shop/ghost")


async def test_an_add_with_a_wrong_pod_uid_is_refused(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    create_pod(shop, "web", NODE_NAME)
    await until_cached(cluster, "web")

    reply = await agent.call("ADD", "web")  # the harness sends another UID

    assert reply.status == 1
    assert not await agent.claims()


async def test_an_add_of_a_pod_in_deletion_is_refused(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = create_pod(shop, "web", NODE_NAME, finalizers=["test/held"])
    shop.request("DELETE", f"{PODS_PATH}/web")
    await until(lambda: is_in_deletion(cluster, "web"))

    reply = await agent.call("ADD", "web", CNI_ARGS=cni_args_of(pod))

    shop.request(
        "PATCH", f"{PODS_PATH}/web", {"metadata": {"finalizers": None}}, content=MERGE_PATCH
    )
    assert "dead Pod" in reply.error["msg"] + reply.error["details"]


async def test_a_del_releases_a_pods_address_only_after_the_pod_is_deleted(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = create_pod(shop, "web", NODE_NAME)
    added_addresses = await agent.add("web", CNI_ARGS=cni_args_of(pod))

    await agent.delete("web", CNI_ARGS=cni_args_of(pod))
    claims_before = await agent.claims()
    delete_pod(shop, "web")
    await until_uncached(cluster, "web")
    await agent.delete("web", CNI_ARGS=cni_args_of(pod))

    assert [f"{address}/16" for address in claims_before] == added_addresses
    assert not await agent.claims()


async def test_a_del_releases_the_address_of_a_deleted_pod_that_is_still_in_the_cache(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = create_pod(shop, "web", NODE_NAME)
    await agent.add("web", CNI_ARGS=cni_args_of(pod))
    await cluster.stop_watching()

    delete_pod(shop, "web")
    await agent.delete("web", CNI_ARGS=cni_args_of(pod))

    assert ("shop", "web") in cluster.facts.pods.objects, "the Pod must still be in the cache"
    assert not await agent.claims()


async def test_a_del_keeps_a_cached_pods_address_while_the_api_server_is_down(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = create_pod(shop, "web", NODE_NAME)
    await agent.add("web", CNI_ARGS=cni_args_of(pod))
    shop.kill()

    await agent.delete("web", CNI_ARGS=cni_args_of(pod))

    shop.start()
    shop.wait_served(PODS_PATH)
    assert len(await agent.claims()) == 1


async def test_the_owner_of_a_replicasets_pod_is_the_deployment(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    deployment = create_workload(shop, "Deployment", "web")
    replica_set = create_workload(shop, "ReplicaSet", "web-5d4", deployment)
    pod = create_pod(shop, "web-5d4-x", NODE_NAME, replica_set)

    await agent.add("web-5d4-x", CNI_ARGS=cni_args_of(pod))

    endpoint = await agent.endpoint("web-5d4-x")
    assert endpoint is not None
    assert (endpoint.owner_kind, endpoint.owner_name) == ("Deployment", "web")


async def test_a_missing_replicaset_is_still_the_owner_of_its_pod(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    kind = {"kind": "ReplicaSet", "apiVersion": "apps/v1"}
    deleted_set = kind | {"metadata": {"name": "web-5d4", "uid": "uid-of-web-5d4"}}
    pod = create_pod(shop, "web-5d4-x", NODE_NAME, deleted_set)

    await agent.add("web-5d4-x", CNI_ARGS=cni_args_of(pod))

    endpoint = await agent.endpoint("web-5d4-x")
    assert endpoint is not None
    assert (endpoint.owner_kind, endpoint.owner_name) == ("ReplicaSet", "web-5d4")


async def test_the_endpoint_of_an_unscheduled_pod_names_the_agents_node(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    pod = create_pod(shop, "unscheduled", NODE_NAME, spec={"nodeName": None})

    await agent.add("unscheduled", CNI_ARGS=cni_args_of(pod))

    endpoint = await agent.endpoint("unscheduled")
    assert endpoint is not None
    assert endpoint.node == NODE_NAME


async def test_a_replica_keeps_its_address_until_its_statefulset_has_fewer_replicas(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    def has_validity(state: str) -> bool:
        validity = cluster.facts.endpoint_validity(endpoint) if endpoint else None
        return validity is not None and validity.state == state

    stateful = create_workload(shop, "StatefulSet", "db", replicas=1, serviceName="db")
    first = create_pod(shop, "db-0", NODE_NAME, stateful)
    added_addresses = await agent.add("db-0", CNI_ARGS=cni_args_of(first))
    endpoint = await agent.endpoint("db-0")
    await until(lambda: has_validity("valid"))

    delete_pod(shop, "db-0")
    await until_uncached(cluster, "db-0")
    await agent.delete("db-0", CNI_ARGS=cni_args_of(first))
    second = create_pod(shop, "db-0", NODE_NAME, stateful)
    assert (
        await agent.add("db-0", CNI_ARGS=cni_args_of(second), CNI_CONTAINERID="c-again")
        == added_addresses
    )

    scale_down = {"spec": {"replicas": 0}}
    shop.request("PATCH", f"{COLLECTION_PATHS['StatefulSet']}/db", scale_down, content=MERGE_PATCH)
    await until(lambda: has_validity("invalid"))
    delete_pod(shop, "db-0")
    await until_uncached(cluster, "db-0")
    await agent.delete("db-0", CNI_ARGS=cni_args_of(second), CNI_CONTAINERID="c-again")
    assert not await agent.claims()


async def test_only_an_add_of_a_cached_pod_succeeds_while_the_api_server_is_down(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    deployment = create_workload(shop, "Deployment", "web")
    replica_set = create_workload(shop, "ReplicaSet", "web-5d4", deployment)
    pod = create_pod(shop, "web-5d4-x", NODE_NAME, replica_set, annotations=POOL_BLUE)
    uncached = {"metadata": {"name": "uncached", "uid": "uid-of-uncached"}}
    await until_cached(cluster, "web-5d4-x")
    await until(lambda: cluster.facts._owners.top(as_owner(replica_set)).kind == "Deployment")
    shop.kill()

    (address,) = await agent.add("web-5d4-x", CNI_ARGS=cni_args_of(pod))
    refused_reply = await agent.call("ADD", "uncached", CNI_ARGS=cni_args_of(uncached))

    shop.start()
    shop.wait_served(PODS_PATH)
    assert address.startswith("10.6.2.")
    assert refused_reply.error["code"] == TRY_AGAIN_LATER
    endpoint = await agent.endpoint("web-5d4-x")
    assert endpoint is not None
    assert endpoint.owner_kind == "Deployment"


async def test_an_agent_without_a_kubeconfig_connects_to_no_cluster(settings: Settings) -> None:
    assert await connect_cluster(settings) is None
