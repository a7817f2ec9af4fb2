"""A refused ADD is recorded as an event; the answer does not wait for the event.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from core.allocation.add_request import AddRequest
from core.domain.claims.claim_decisions import holder_of
from core.domain.events import AllocationRefused, Cause, Recorded
from core.domain.model import Attachment, Nic
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.domain.selection.selection_request import SelectionRequest
from core.errors import AddressConflict
from core.eventstore.kv import Get, Guard, KeyValueStore, TxnResult, Write
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.handlers.add_handler import AddHandler, AllocationSteps
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import DEADLINE_S, until

TRACEPARENT_OF_CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def refusal_events(agent: AgentHarness, store: KeyValueStore) -> list[Recorded]:
    segments, _ = await LogReader(store, agent.keys).catch_up(LOG_START)
    events = [recorded for segment in segments for recorded in segment.events()]
    return [recorded for recorded in events if isinstance(recorded.event, AllocationRefused)]


async def wait_for_first_refusal(agent: AgentHarness, store: KeyValueStore) -> Recorded:
    async with asyncio.timeout(DEADLINE_S):
        async for segments, _ in LogReader(store, agent.keys).follow(LOG_START):
            for segment in segments:
                for recorded in segment.events():
                    if isinstance(recorded.event, AllocationRefused):
                        return recorded
    raise AssertionError("the log has ended")


async def test_the_event_of_a_refused_add_has_pod_cause_and_verdicts(
    agent: AgentHarness, memory_store: MemoryStore
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", disabled=True)

    error = (await agent.call("ADD", TRACEPARENT=TRACEPARENT_OF_CALLER)).error

    recorded = await wait_for_first_refusal(agent, memory_store)
    event = recorded.event
    assert isinstance(event, AllocationRefused)
    assert (event.namespace, event.name, event.uid) == ("shop", "web-0", "uid-web-0")
    assert (event.node, event.holder) == ("node-1", "pod/uid-web-0")
    assert (event.interface, event.reason) == ("eth0", "no-pool")
    assert event.message in error["msg"] + error["details"]
    assert event.source == "default-pools"
    (verdict,) = event.verdicts
    assert (verdict.pool, verdict.rule) == ("lan", "disabled")
    assert (recorded.cause.correlation_id, recorded.cause.traceparent) == (
        "c-web-0",
        TRACEPARENT_OF_CALLER,
    )


class BlockedStore(MemoryStore):
    """A store whose transactions wait for ``may_commit``."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.wait_count = 0

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        self.wait_count += not self.may_commit.is_set()
        await self.may_commit.wait()
        return await super().commit(guards, writes, otherwise)


async def test_a_refused_add_is_answered_before_its_event_is_written(settings: Settings) -> None:
    store = BlockedStore()
    async with running(settings, store) as agent:
        await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", disabled=True)
        store.may_commit.clear()

        assert "disabled IPPool lan" in str((await agent.call("ADD")).error)

        await until(lambda: store.wait_count == 1)
        store.may_commit.set()
    assert len(await refusal_events(agent, store)) == 1


async def test_counted_refusals_are_written_when_the_agent_stops(
    settings: Settings, memory_store: MemoryStore
) -> None:
    async with running(settings, memory_store) as agent:
        for _ in range(4):
            assert (await agent.call("ADD")).status == 1
        assert agent.process.parts.refusal_recorder.dropped == 0

    times = [
        recorded.event.times
        for recorded in await refusal_events(agent, memory_store)
        if isinstance(recorded.event, AllocationRefused)
    ]
    assert times == [1, 3], "the first refusal is written immediately, three are counted"


class IpamClaimFacts:
    """Facts of a Pod whose NIC net1 has an IPAMClaim."""

    def facts(self, _: PodReference) -> RequestFacts:
        pod = PodFacts("shop", "web-0", "uid-web-0", claims={"net1": "lan.net1"})
        return RequestFacts(pod, NamespaceFacts("shop"), NodeFacts("node-1"))


class ConflictingProbe:
    is_enabled = True

    async def allocate_and_probe(self, *_: object) -> Nic:
        raise AddressConflict("10.6.0.10 is used by another host")


@pytest.mark.parametrize(
    ("interface", "holder"),
    [("eth0", "pod/uid-web-0"), ("net1", "ipamclaim/shop/lan.net1.ipamclaim")],
)
async def test_the_holder_of_a_refused_nic_is_its_ipam_claim_or_else_the_pod(
    interface: str, holder: str
) -> None:
    holders: list[str] = []

    def on_refused(pod: PodFacts, *_: object) -> None:
        holders.append(holder_of(pod))

    # The ADD uses only the facts, the step ``on_refused`` and the probe.
    steps = AllocationSteps(cast("Any", None), on_refused)
    handler = AddHandler(
        *cast("Any", (None, None, IpamClaimFacts(), None, steps, ConflictingProbe()))
    )
    attachment = Attachment("c-web-0", interface)
    request = AddRequest(PodReference(), attachment, SelectionRequest(interface), Cause("agent"))

    with pytest.raises(CniFailure):
        await handler.handle_add(request, "1.0.0", 0.0)

    assert holders == [holder]
