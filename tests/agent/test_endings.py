"""What does not end by itself: callers, and calls to etcd."""

from __future__ import annotations

import asyncio
from errno import ETIMEDOUT
from typing import cast

import pytest

from core.errors import DeadlineExceeded
from core.store.kv import TxnResult
from core.store.memory import MemoryStore
from nodeagent.gate import Gate
from nodeagent.health import StoreWatchdog
from nodeagent.serving import Serving
from nodeagent.settings.values import Settings
from nodeagent.telemetry.metrics import Metrics
from nodeagent.telemetry.observed import ObservedStore
from nodeagent.verbs.adding import Adding
from nodeagent.verbs.deleting import Deleting
from tests.agent.node import Node


@pytest.mark.parametrize("binds", [False, True])
def test_a_delete_may_wait_for_as_long_as_an_add_may_take(
    binds: bool,  # whether there is a provider
) -> None:
    """Given up before, it would succeed and leave to nobody what the ADD then gets."""
    unasked = cast("Adding", None), cast("Deleting", None)
    serving = Serving(Gate(), Metrics(), None, *unasked, binds=binds)
    assert serving.delete_deadline_s >= serving.add_deadline_s


async def test_a_request_that_does_not_end_does_not_keep_the_agent_from_ending(
    node: Node, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = asyncio.Event()

    async def ask_for_ever() -> None:
        inside.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(node.agent.parts.health, "fault", ask_for_ever)
    reader, writer = await asyncio.open_unix_connection(settings.socket_path)
    writer.write(b"GET /v1/ipam/healthy HTTP/1.1\r\nHost: agent\r\n\r\n")
    await inside.wait()

    await node.agent.parts.http.close()
    async with asyncio.timeout(20):  # supervisors wait 30 s for all of the end
        await node.agent.parts.http.end()
    assert await reader.read() == b""
    writer.close()


async def test_a_call_that_its_caller_gave_up_tells_of_an_etcd_that_may_be_away(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = StoreWatchdog()

    async def never_answer(*_: object) -> TxnResult:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(store, "commit", never_answer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ObservedStore(store, watchdog).commit([], []), 0.01)
    assert watchdog.is_away


async def test_a_time_out_of_the_work_itself_is_not_taken_for_the_deadline() -> None:
    async def work() -> None:
        raise TimeoutError(ETIMEDOUT, "Connection timed out")

    with pytest.raises(TimeoutError, match="Connection timed out"):
        await Gate().run(work, 30.0)


async def test_work_that_takes_longer_than_its_deadline_is_told_so() -> None:
    with pytest.raises(DeadlineExceeded, match="not done within 0 s"):
        await Gate().run(asyncio.Event().wait, 0.0)
