"""Nodes are drained a few at a time, each for a limited time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from core.domain.sriov import drain_plan
from tests.workflows.jobs.node_drain.drain_harness import DrainHarness, ScriptedCluster
from workflows.jobs.node_drain.drains import (
    ACTIVE_S,
    IDLE_S,
    SETTINGS_SIGNAL,
    STEP_ATTEMPTS_S,
    DrainSettings,
)
from workflows.testing.handle import TimeSkippingHandle

StartDrains = Callable[..., Awaitable[tuple[TimeSkippingHandle, DrainHarness]]]


@pytest.fixture
async def start_drains() -> AsyncIterator[StartDrains]:
    harnesses: list[DrainHarness] = []

    async def start(
        cluster: ScriptedCluster, max_unavailable: int = 1
    ) -> tuple[TimeSkippingHandle, DrainHarness]:
        harness = DrainHarness(cluster)
        harnesses.append(harness)
        return await harness.start(max_unavailable), harness

    yield start
    for harness in harnesses:
        await harness.environment.close()


async def test_a_node_is_cordoned_drained_and_uncordoned(start_drains: StartDrains) -> None:
    cluster = ScriptedCluster(a=["shop/web-0", "shop/web-1"])

    handle, harness = await start_drains(cluster)
    await harness.environment.advance(2 * ACTIVE_S + 1)

    assert cluster.steps == ["cordon a", "evict shop/web-0 shop/web-1", "uncordon a"]
    assert cluster.cordoned == []
    status = await handle.query("status")
    assert (status["drained"], status["draining"]) == (1, {})


async def test_nodes_are_drained_one_after_the_other(start_drains: StartDrains) -> None:
    cluster = ScriptedCluster(a=["shop/a"], b=["shop/b"])

    _, harness = await start_drains(cluster)
    await harness.environment.advance(4 * ACTIVE_S)

    assert cluster.steps == [
        "cordon a", "evict shop/a", "uncordon a",
        "cordon b", "evict shop/b", "uncordon b",
    ]  # fmt: skip


async def test_a_larger_max_unavailable_cordons_a_second_node(
    start_drains: StartDrains,
) -> None:
    cluster = ScriptedCluster(a=["shop/a"], b=["shop/b"])
    cluster.not_evictable = {"shop/a"}

    handle, harness = await start_drains(cluster)
    await handle.signal(SETTINGS_SIGNAL, DrainSettings(2))
    await harness.environment.settle()

    assert cluster.cordoned == ["a", "b"]


async def test_a_drain_whose_pod_cannot_be_evicted_is_given_up_and_tried_again(
    start_drains: StartDrains, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain_s_max, retry_s = 6 * ACTIVE_S, 4 * IDLE_S
    monkeypatch.setattr(drain_plan, "DRAIN_S_MAX", drain_s_max)
    monkeypatch.setattr(drain_plan, "RETRY_S", retry_s)
    cluster = ScriptedCluster(a=["shop/a"])
    cluster.not_evictable = {"shop/a"}

    handle, harness = await start_drains(cluster)
    await harness.environment.advance(ACTIVE_S + 1)
    staying_pods = (await handle.query("status"))["staying"]
    await harness.environment.advance(drain_s_max + ACTIVE_S)
    given_up_nodes = list((await handle.query("status"))["given_up"])
    cordoned_after_giving_up = list(cluster.cordoned)
    await harness.environment.advance(retry_s + IDLE_S)

    assert staying_pods == {"a": ["shop/a: a PodDisruptionBudget"]}
    assert (cordoned_after_giving_up, given_up_nodes) == ([], ["a"])
    assert cluster.cordoned == ["a"]


async def test_a_drain_continues_after_an_outage_of_the_api_server(
    start_drains: StartDrains,
) -> None:
    cluster = ScriptedCluster(a=["shop/a"])
    cluster.failures = 100

    handle, harness = await start_drains(cluster)
    await harness.environment.advance(600)
    fault = (await handle.query("status"))["fault"]
    cluster.failures = 0
    await harness.environment.advance(200)

    assert "the API server does not answer" in fault
    assert cluster.steps == ["cordon a", "evict shop/a", "uncordon a"]
    assert (await handle.query("status"))["fault"] == ""


async def test_a_failed_step_does_not_stop_the_drain_of_another_node(
    start_drains: StartDrains,
) -> None:
    cluster = ScriptedCluster(a=["shop/a"], b=["shop/b"])
    cluster.failing_nodes = {"a"}

    handle, harness = await start_drains(cluster, max_unavailable=2)
    await harness.environment.advance(STEP_ATTEMPTS_S + ACTIVE_S)

    assert cluster.steps[:3] == ["cordon a", "cordon b", "evict shop/b"]
    assert "node a cannot be changed" in (await handle.query("status"))["fault"]


async def test_no_node_is_cordoned_until_the_drained_node_is_uncordoned(
    start_drains: StartDrains,
) -> None:
    cluster = ScriptedCluster(a=[], b=["shop/b"])
    cluster.cordoned, cluster.failing_nodes = ["a"], {"a"}

    handle, harness = await start_drains(cluster)
    await harness.environment.advance(2 * STEP_ATTEMPTS_S)
    steps, status = list(cluster.steps), await handle.query("status")
    cluster.failing_nodes = set()
    await harness.environment.advance(2 * STEP_ATTEMPTS_S)

    assert (steps, status["drained"]) == ([], 0)
    assert cluster.steps[:2] == ["uncordon a", "cordon b"]


async def test_a_cordoned_node_is_uncordoned_if_max_unavailable_is_zero(
    start_drains: StartDrains,
) -> None:
    cluster = ScriptedCluster(a=["shop/a"])
    cluster.cordoned = ["a"]

    await start_drains(cluster, max_unavailable=0)

    assert cluster.steps == ["uncordon a"]
