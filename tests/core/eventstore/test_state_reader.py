"""Reading a large ledger does not block the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from core.domain.configuration.commands import ApplyRecord
from core.domain.events import Cause, RecordDefined
from core.eventstore import state_reader
from core.eventstore.codec import KeyKind
from core.eventstore.memory_store import MemoryStore
from core.eventstore.state_reader import read_ledger
from tests.support.node_harness import NodeHarness, pod, pool

DECODED_AT_ONCE = 5
PODS = 4 * DECODED_AT_ONCE


@pytest.fixture
async def node() -> Any:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.250"))
        for number in range(PODS):
            await node.add(pod(f"web-{number}"))
            record = RecordDefined("Pod", "shop", f"web-{number}")
            await node.configurator.apply(ApplyRecord(record), Cause("test"))
        yield node


async def test_each_event_loop_pass_decodes_a_limited_number_of_values(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_reader, "DECODED_AT_ONCE_MAX", DECODED_AT_ONCE)
    loop_pass, decoded_by_pass = 0, Counter[int]()
    decode = KeyKind.read

    async def count_passes() -> None:
        nonlocal loop_pass
        while True:
            loop_pass += 1
            await asyncio.sleep(0)

    def count_and_decode(self: KeyKind[Any], *arguments: Any) -> object:
        decoded_by_pass[loop_pass] += 1
        return decode(self, *arguments)

    monkeypatch.setattr(KeyKind, "read", count_and_decode)
    counting = asyncio.ensure_future(count_passes())
    ledger = await read_ledger(node.store, node.keys)
    counting.cancel()

    assert len(ledger.claims) == len(ledger.endpoints) == len(ledger.records) == PODS
    assert decoded_by_pass.total() >= 3 * PODS  # each Pod has a claim, an endpoint and a record
    assert max(decoded_by_pass.values()) <= DECODED_AT_ONCE
