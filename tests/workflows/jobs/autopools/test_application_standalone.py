"""Automatic pools without Kubernetes: a user applies manifests, and an agent serves ADDs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.domain.configuration.commands import DeleteRecord
from core.domain.configuration.configuration_state import pool_addresses
from core.eventstore.memory_store import MemoryStore
from core.eventstore.state_reader import read_ledger
from core.manifests.commands import apply_command
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.engine_harness import eventually
from tests.support.manifests import load_documents
from tests.workflows.jobs.autopools import workload_manifests as workloads
from workflows.jobs.job_host import JobHost

ANNOTATIONS = workloads.subnet_annotations(ipv4="racks", number="+1")
"""Request one address more than there are replicas."""

NO_POOL = 111
"""The CNI error code of an ADD without a usable pool."""


@pytest.fixture
async def agent(short_path: Path) -> AsyncIterator[AgentHarness]:
    settings = Settings(
        node_name="node-1",
        socket_path=str(short_path / "a.sock"),
        health_port=0,
        metrics_port=0,
        plugin_log_path=str(short_path / "plugin.log"),
        address_order="sequential",
        cool_down_s=0,
    )
    store = MemoryStore()
    async with running(settings, store) as agent:
        host = JobHost(store, agent.keys, "controller")
        tasks = [asyncio.create_task(host.run()), asyncio.create_task(host.lead())]
        yield agent
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def apply_manifests(agent: AgentHarness, *objects: workloads.Plain) -> None:
    text = workloads.as_yaml(objects)
    await agent.apply(*(apply_command(document) for document in load_documents(text)))


async def pool_sizes(agent: AgentHarness) -> dict[str, int]:
    pools = (await read_ledger(agent.store, agent.keys)).pools
    return {name: pool_addresses(pool).size for name, pool in pools.items()}


async def until_pool_sizes(agent: AgentHarness, expected: dict[str, int]) -> None:
    async def has_sizes() -> bool:
        return await pool_sizes(agent) == expected

    await eventually(has_sizes)


RACKS = workloads.subnet("racks", "10.7.0.0/16", ["10.7.0.10-10.7.0.19"], "10.7.0.1")


def web_deployment(replicas: int) -> workloads.Plain:
    return workloads.deployment("web", "shop", replicas, ANNOTATIONS)


def web_pod(number: int) -> workloads.Plain:
    return workloads.pod(f"web-{number}", "web", "shop", ANNOTATIONS)


WEB_POOL = "auto4-web-eth0-fa382"


async def test_a_pool_is_created_resized_and_deleted_with_its_deployment(
    agent: AgentHarness,
) -> None:
    await apply_manifests(agent, RACKS, web_deployment(2), web_pod(0), web_pod(1))
    assert await agent.add("web-0") == ["10.7.0.10/16"]
    await until_pool_sizes(agent, {WEB_POOL: 3})

    await apply_manifests(agent, web_deployment(5))
    await until_pool_sizes(agent, {WEB_POOL: 6})
    await apply_manifests(agent, web_deployment(1))
    await until_pool_sizes(agent, {WEB_POOL: 2})
    # Shrinking has removed the lowest unused addresses, 10.7.0.11 to 10.7.0.14.
    assert await agent.add("web-1") == ["10.7.0.15/16"]

    await agent.apply(DeleteRecord("Deployment", "shop", "web"))
    await agent.delete("web-0")
    await agent.delete("web-1")
    await until_pool_sizes(agent, {})


async def test_an_add_waits_until_the_deployment_exists(
    agent: AgentHarness,
) -> None:
    await apply_manifests(agent, RACKS, web_pod(0))
    pending_add = asyncio.ensure_future(agent.add("web-0"))
    metrics = agent.process.parts.metrics

    async def is_waiting() -> bool:
        return metrics.auto_pool_waits == 1

    await eventually(is_waiting)
    await apply_manifests(agent, web_deployment(1))

    assert await pending_add == ["10.7.0.10/16"]


async def test_an_add_fails_at_once_if_the_subnet_does_not_exist(
    agent: AgentHarness,
) -> None:
    await apply_manifests(agent, web_deployment(1), web_pod(0))

    error: Any = (await agent.call("ADD", "web-0")).error

    assert error["code"] == NO_POOL
    assert "there is no SpiderSubnet/racks" in error["msg"]
    assert "create it, or correct the annotation in the Pod template" in error["details"]
    assert "orbctl workflow describe auto-pools/apps_v1_Deployment_shop_web" in error["details"]


async def test_a_pod_of_a_replica_set_uses_the_pool_of_the_deployment(agent: AgentHarness) -> None:
    replica_set: workloads.Plain = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "web-77",
            "namespace": "shop",
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": True}
            ],
        },
        "spec": {"replicas": 2, "template": {"metadata": {"annotations": ANNOTATIONS}}},
    }
    pod = workloads.pod("web-0", "web-77", "shop", ANNOTATIONS)
    pod["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet"  # type: ignore[index]
    await apply_manifests(agent, RACKS, web_deployment(2), replica_set, pod)

    assert await agent.add("web-0") == ["10.7.0.10/16"]
    await until_pool_sizes(agent, {WEB_POOL: 3})


async def test_the_pool_of_a_third_party_application_stays_after_the_last_del(
    agent: AgentHarness,
) -> None:
    annotations = workloads.subnet_annotations(ipv4="racks", number="2")
    pod = workloads.pod("clone-0", "clone", "shop", annotations)
    owner = {"apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "name": "clone"}
    pod["metadata"]["ownerReferences"] = [{**owner, "controller": True}]  # type: ignore[index]
    await apply_manifests(agent, RACKS, pod)

    await agent.add("clone-0")
    (name,) = await pool_sizes(agent)
    await agent.delete("clone-0")

    assert name.startswith("auto4-clone-eth0-")
    assert await pool_sizes(agent) == {name: 2}
