"""Controllers create, resize and delete the automatic pools of applications.

An application is a Deployment or another workload that requests a pool by an annotation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from core.domain.autopools.pool_names import OWNER_KIND, OWNER_NAME, ApplicationKey, application_of
from core.domain.configuration.commands import ApplySubnet
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.model import Pool, Subnet
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.workloads.applications import COLLECTION_NAMES
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.settings.agent_settings import Settings
from ops.kubernetes.watches.applications import KubernetesApplications
from tests.kubernetes.controllers_harness import NODE_NAME, ControllersHarness
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    COLLECTION_PATHS,
    cni_args_of,
    create_pod,
    create_workload,
    define_kind,
    delete_pod,
)
from tests.support.agent_harness import AgentHarness, running
from tests.support.engine_harness import eventually
from tests.support.kubernetes import MERGE_PATCH, ApiServer

SUBNET = Subnet("shop-v4", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.60",))
REQUESTS_POOL = {"ipam.spidernet.io/subnet": json.dumps({"ipv4": ["shop-v4"]})}
CLONE_SETS_PATH = "/apis/apps.kruise.io/v1alpha1/namespaces/shop/clonesets"


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as harness:
        await harness.node.apply(ApplySubnet(SUBNET))
        yield harness
        await harness.stop_and_check()


@pytest.fixture
async def agent(
    server: ApiServer, settings: Settings, controllers: ControllersHarness
) -> AsyncIterator[AgentHarness]:
    agent_settings = settings._replace(
        kubeconfig=str(server.kubeconfig), cluster=controllers.node.keys.cluster
    )
    cluster = await connect_cluster(agent_settings)
    assert cluster is not None
    await controllers.until(cluster.facts.pods.listed.is_set)
    async with running(agent_settings, controllers.store, facts=cluster.facts) as harness:
        yield harness
        await cluster.close()


async def pools_of(
    controllers: ControllersHarness, name: str, kind: str = "Deployment"
) -> list[Pool]:
    owner = (kind, name)
    pools = (await controllers.node.read_ledger()).pools.values()
    return [
        pool
        for pool in pools
        if (pool.labels.get(OWNER_KIND), pool.labels.get(OWNER_NAME)) == owner
    ]


async def until_pools(
    controllers: ControllersHarness, name: str, *ips: str, kind: str = "Deployment"
) -> None:
    """Wait until the pools of the application have exactly the ranges ``ips``, in this order."""

    async def pools_have_ranges() -> bool:
        pools = await pools_of(controllers, name, kind)
        return [",".join(pool.ips) for pool in pools] == list(ips)

    await eventually(pools_have_ranges)


def scale(server: ApiServer, name: str, replicas: int) -> None:
    patch = {"spec": {"replicas": replicas}}
    server.request("PATCH", f"{COLLECTION_PATHS['Deployment']}/{name}", patch, content=MERGE_PATCH)


def delete(server: ApiServer, kind: str, name: str) -> None:
    server.request("DELETE", f"{COLLECTION_PATHS[kind]}/{name}?propagationPolicy=Background")


def create_pod_of_deployment(server: ApiServer, deployment: Object, name: str) -> Object:
    """Create a Pod as a Deployment's ReplicaSet does."""
    replica_set = create_workload(server, "ReplicaSet", f"{name}-rs", deployment)
    return create_pod(server, name, NODE_NAME, replica_set, annotations=REQUESTS_POOL)


async def test_a_pool_grows_shrinks_and_is_deleted_with_its_deployment(
    server: ApiServer, controllers: ControllersHarness, agent: AgentHarness
) -> None:
    await controllers.start_controller()
    web = create_workload(server, "Deployment", "web", annotations=REQUESTS_POOL, replicas=2)
    await until_pools(controllers, "web", "10.7.0.10-10.7.0.11")
    pod = create_pod_of_deployment(server, web, "web-a")
    added_addresses = await agent.add("web-a", CNI_ARGS=cni_args_of(pod))

    scale(server, "web", 5)
    await until_pools(controllers, "web", "10.7.0.10-10.7.0.14")
    scale(server, "web", 1)
    address_in_use = added_addresses[0].partition("/")[0]
    await until_pools(controllers, "web", address_in_use)
    delete(server, "Deployment", "web")
    delete_pod(server, "web-a")  # no DEL arrives
    await until_pools(controllers, "web")

    assert added_addresses[0].startswith("10.7.0.1")
    assert not await controllers.claimed_addresses()


async def test_an_add_waits_until_a_controller_creates_the_pool(
    server: ApiServer, controllers: ControllersHarness, agent: AgentHarness
) -> None:
    web = create_workload(server, "Deployment", "web", annotations=REQUESTS_POOL, replicas=1)
    pod = create_pod_of_deployment(server, web, "web-a")
    adding = asyncio.create_task(agent.add("web-a", CNI_ARGS=cni_args_of(pod)))
    await controllers.start_controller()

    assert await adding == ["10.7.0.10/16"]


async def test_a_new_controller_updates_the_pools_of_changed_applications(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    create_workload(server, "Deployment", "scaled", annotations=REQUESTS_POOL, replicas=2)
    await until_pools(controllers, "scaled", "10.7.0.10-10.7.0.11")
    create_workload(server, "Deployment", "deleted", annotations=REQUESTS_POOL, replicas=2)
    await until_pools(controllers, "deleted", "10.7.0.12-10.7.0.13")
    await controllers.stop_controller("one")

    scale(server, "scaled", 1)
    delete(server, "Deployment", "deleted")
    create_workload(server, "Deployment", "created", annotations=REQUESTS_POOL, replicas=1)
    await controllers.start_controller("two")

    await until_pools(controllers, "scaled", "10.7.0.11")
    await until_pools(controllers, "deleted")
    created_pools = await eventually(partial(pools_of, controllers, "created"))
    assert [size_of(pool) for pool in created_pools] == [1]


DESIRED_DAEMON_PODS = 4
# Kind -> fields of the workload's spec, and the expected number of addresses in the pool.
SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "Deployment": ({"replicas": 3}, 3),
    "ReplicaSet": ({"replicas": 2}, 2),
    "StatefulSet": ({"replicas": 2}, 2),
    "DaemonSet": ({}, DESIRED_DAEMON_PODS),
    "Job": ({"completions": 3, "parallelism": 2}, 3),
    "CronJob": ({}, 1),
}


async def test_every_kind_of_application_gets_a_pool_of_the_expected_size(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    for kind, (spec, _) in SIZES.items():
        create_workload(server, kind, kind.lower(), annotations=REQUESTS_POOL, **spec)
    status = dict.fromkeys(("currentNumberScheduled", "numberMisscheduled", "numberReady"), 0)
    scheduled = {"status": status | {"desiredNumberScheduled": DESIRED_DAEMON_PODS}}
    server.request(
        "PATCH", f"{COLLECTION_PATHS['DaemonSet']}/daemonset/status", scheduled, content=MERGE_PATCH
    )

    async def have_expected_sizes() -> bool:
        return await size_by_kind(controllers) == {kind: size for kind, (_, size) in SIZES.items()}

    await eventually(have_expected_sizes)
    assert set(SIZES) == set(COLLECTION_NAMES)


def size_of(pool: Pool) -> int:
    return pool_addresses(pool).size


async def size_by_kind(controllers: ControllersHarness) -> dict[str, int]:
    ledger = await controllers.node.read_ledger()
    pool_by_kind = {pool.labels.get(OWNER_KIND): pool for pool in ledger.pools.values()}
    return {kind: size_of(pool) for kind, pool in pool_by_kind.items() if kind}


async def test_the_replicaset_of_a_deployment_gets_no_pool(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    web = create_workload(server, "Deployment", "web", annotations=REQUESTS_POOL, replicas=1)
    create_workload(server, "ReplicaSet", "web-1", web, annotations=REQUESTS_POOL, replicas=1)

    await until_pools(controllers, "web", "10.7.0.10")

    assert not await pools_of(controllers, "web-1", "ReplicaSet")


async def test_a_pool_stays_if_reading_its_deleted_application_is_forbidden(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    create_workload(server, "Deployment", "web", annotations=REQUESTS_POOL, replicas=1)
    await until_pools(controllers, "web", "10.7.0.10")
    await controllers.stop_controller("one")
    delete(server, "Deployment", "web")

    anonymous_controller = await controllers.start_controller("two", anonymous=True)
    (pool,) = await pools_of(controllers, "web")
    key = application_of(pool.labels)
    assert key is not None
    application = await anonymous_controller.watch.applications.find(key)

    assert isinstance(application, MissingOwner)
    assert "forbidden" in application.why
    assert not application.certain
    assert await pools_of(controllers, "web") == [pool]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Node", "the kind Node is not namespaced: its objects cannot be in a namespace"),
        ("Nothing", "the API server has no kind Nothing"),
    ],
)
async def test_an_owner_of_an_unusable_kind_is_unknown_for_a_stated_reason(
    server: ApiServer, kind: str, why: str
) -> None:
    api = Api(await open_connection(str(server.kubeconfig)))

    owner = await KubernetesApplications(api).find(ApplicationKey("v1", kind, "shop", "web"))
    await api.close()

    assert owner == MissingOwner(certain=False, why=why)


async def test_a_third_party_application_has_a_pool_until_the_application_is_deleted(
    server: ApiServer, controllers: ControllersHarness, agent: AgentHarness
) -> None:
    define_kind(server, "apps.kruise.io", "v1alpha1", "CloneSet", "clonesets")
    await controllers.start_controller()
    body = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": "ads"},
    }
    owner = server.request("POST", CLONE_SETS_PATH, body).body
    annotations = REQUESTS_POOL | {"ipam.spidernet.io/ippool-ip-number": "1"}
    pod = create_pod(server, "ads-x", NODE_NAME, owner, annotations=annotations)

    added_addresses = await agent.add("ads-x", CNI_ARGS=cni_args_of(pod))
    server.request("DELETE", f"{CLONE_SETS_PATH}/ads")
    delete_pod(server, "ads-x")
    await until_pools(controllers, "ads", kind="CloneSet")

    assert added_addresses == ["10.7.0.10/16"]
    assert not await controllers.claimed_addresses()
