"""DEL returns "try again later" after a retryable error, and succeeds after a permanent error.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

import asyncio

import pytest

from core.errors import (
    DeadlineExceeded,
    LostRace,
    OrbweaverError,
    OutcomeUnknown,
    Overloaded,
    StoreRejected,
    StoreUnavailable,
)
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import TRY_AGAIN_LATER
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.faulty_store import Fault, FaultyStore

UNREADABLE_ENDPOINT = b"\x92\x63\x90"
"""MessagePack of a value with the unknown schema version 99."""


async def test_a_delete_fails_if_its_commits_are_lost_although_reads_succeed(
    settings: Settings, memory_store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.eventstore.retry_policies.SETTLE_S_MAX", 0.2)
    store = FaultyStore(memory_store)
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        await node.add()

        async def read_claims_repeatedly() -> None:
            while True:
                await node.claims()
                await asyncio.sleep(0)

        reads = asyncio.create_task(read_claims_repeatedly())
        store.fail_next_commits(*[Fault.REQUEST_LOST] * 1_000)  # more commits than the DEL tries
        error = (await node.call("DEL")).error
        store.heal()
        reads.cancel()
        claims = await node.claims()
        await node.delete()

        assert error["code"] == TRY_AGAIN_LATER
        assert error["msg"].startswith("spiderpool IP release error: ")
        assert len(claims) == 1
        assert await node.claims() == {}


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("etcd is away"),
        OutcomeUnknown("the answer was lost"),
        Overloaded("the queue is full"),
        DeadlineExceeded("not done within 30 s"),
        LostRace("the endpoint changed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_delete_with_a_retryable_error_asks_for_a_retry(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch, error: OrbweaverError
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(agent.process.parts.handlers.delete, "handle_delete", fail)

    assert (await agent.call("DEL")).error["code"] == TRY_AGAIN_LATER


async def test_a_delete_of_an_unreadable_endpoint_asks_for_a_retry(
    agent: AgentHarness, settings: Settings, memory_store: MemoryStore
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()
    start, end = Keys(settings.cluster).range_of("endpoint")
    (endpoint,) = (await memory_store.read([Get(start, end)])).ranges[0].kvs
    await memory_store.commit([], [Put(endpoint.key, UNREADABLE_ENDPOINT)])

    error = (await agent.call("DEL")).error
    assert error["code"] == TRY_AGAIN_LATER
    assert "Endpoint value cannot be decoded" in error["msg"]

    await memory_store.commit([], [Put(endpoint.key, endpoint.value)])
    await agent.delete()
    assert await agent.claims() == {}


async def test_a_delete_with_a_permanent_error_succeeds(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry would not help; a later GC releases the addresses."""

    async def fail(*_: object) -> None:
        raise StoreRejected("permission denied")

    monkeypatch.setattr(agent.process.parts.handlers.delete, "handle_delete", fail)

    assert (await agent.call("DEL")).status == 0
