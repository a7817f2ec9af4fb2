"""Deadlines of requests, and unanswered calls to etcd."""

from __future__ import annotations

import asyncio
from errno import ETIMEDOUT
from typing import Any

import pytest

from core.domain.request_facts import PodReference
from core.errors import DeadlineExceeded
from core.eventstore.kv import TxnResult
from core.eventstore.memory_store import MemoryStore
from nodeagent.agent import Agent
from nodeagent.composition import AgentSources
from nodeagent.health import StoreWatchdog
from nodeagent.request_runner import ADD_DEADLINE_S, RequestRunner
from nodeagent.settings.agent_settings import Settings
from nodeagent.telemetry.observed_store import ObservedStore
from tests.support.agent_harness import AgentHarness
from tests.support.http_caller import over_socket


@pytest.mark.parametrize("has_networks", [False, True])
async def test_a_delete_has_at_least_the_deadline_of_an_add(
    has_networks: bool,
    settings: Settings,
    store: MemoryStore,
) -> None:
    """An ADD that ended after its DEL would keep its addresses.

    An ADD takes longer if a provider binds its addresses (``networks``).
    """
    networks: Any = object() if has_networks else None
    agent = Agent(settings, store, sources=AgentSources(networks=networks))
    handlers = agent.parts.handlers
    await agent.stop()

    assert handlers.delete.deadline_s >= handlers.add.deadline_s
    assert (handlers.add.deadline_s > ADD_DEADLINE_S) == has_networks


async def test_a_request_for_coordinator_settings_ends_at_its_deadline(
    agent: AgentHarness, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_for_ever(_: PodReference) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("nodeagent.servers.http_api.READ_DEADLINE_S", 0.01)
    monkeypatch.setattr(agent.process.parts.facts, "load_pod", wait_for_ever)
    body = {"podNamespace": "shop", "podName": "web-0"}
    async with asyncio.timeout(20):
        reply = await over_socket(settings.socket_path, "GET", "/v1/coordinator/config", body)

    assert (reply.status, reply.json) == (500, "the request was not done within 0.01 s")


async def test_an_agent_ends_while_a_request_hangs(
    agent: AgentHarness, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe_has_begun = asyncio.Event()

    async def wait_for_ever() -> None:
        probe_has_begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(agent.process.parts.health, "probe_fault", wait_for_ever)
    reader, writer = await asyncio.open_unix_connection(settings.socket_path)
    writer.write(b"GET /v1/ipam/healthy HTTP/1.1\r\nHost: agent\r\n\r\n")
    await probe_has_begun.wait()

    await agent.process.parts.http.close()
    async with asyncio.timeout(20):  # terminationGracePeriodSeconds of the agent is 30
        await agent.process.parts.http.end()
    assert await reader.read() == b""
    writer.close()


async def test_the_watchdog_counts_a_cancelled_call_to_etcd_as_unanswered(
    memory_store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = StoreWatchdog()

    async def never_answer(*_: object) -> TxnResult:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(memory_store, "commit", never_answer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ObservedStore(memory_store, watchdog).commit([], []), 0.01)
    assert watchdog.is_unanswered


async def test_a_timeout_error_of_the_work_is_not_reported_as_a_missed_deadline() -> None:
    with pytest.raises(TimeoutError, match="Connection timed out"), RequestRunner().admit(30.0):
        raise TimeoutError(ETIMEDOUT, "Connection timed out")


async def test_a_request_that_is_cancelled_before_its_deadline_stays_cancelled() -> None:
    async def work() -> None:
        with RequestRunner().admit(30.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_ends_at_its_deadline_after_an_earlier_request_has_ended() -> None:
    """All requests share the timer that the first request sets."""
    runner, end_of_first = RequestRunner(), asyncio.Event()

    async def work(end: asyncio.Event) -> None:
        with runner.admit(0.05):
            await end.wait()

    first = asyncio.create_task(work(end_of_first))
    second = asyncio.create_task(work(asyncio.Event()))
    await asyncio.sleep(0)
    end_of_first.set()
    await first
    with pytest.raises(DeadlineExceeded):
        await second
    assert runner.requests_under_way == 0


async def test_work_with_a_deadline_of_0_s_fails() -> None:
    with pytest.raises(DeadlineExceeded, match="not done within 0 s"), RequestRunner().admit(0.0):
        await asyncio.Event().wait()
