"""The coordinator's calls of one container run one after another, and delay no other container."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs

from core.domain.model import Attachment
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.conflict_detection.detector import DetectionSwitches
from nodeagent.coordinator.settings import UnparsedSettings, read_settings
from nodeagent.handlers.coordinator_handler import COORDINATOR_THREADS, CoordinatorHandler
from tests.nodeagent.handlers.coordinator_harness import Clock, call, gc_call, handler_with
from tests.support.deadlines import until
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

NO_SETTINGS = UnparsedSettings()


@pytest.fixture
async def coordinator_handler(
    network: NetworkHarness, network_node: NetworkNode
) -> AsyncIterator[CoordinatorHandler]:
    handler = handler_with(network, network_node, Clock())
    yield handler
    await asyncio.to_thread(handler.close)


async def test_calls_of_one_container_do_not_overlap(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = 0
    running_max = 0
    counter_lock = threading.Lock()
    detach = network_node.engine.detach

    def detach_and_count(*arguments: Any) -> bool:
        nonlocal running, running_max
        with counter_lock:
            running += 1
            running_max = max(running_max, running)
        try:
            return detach(*arguments)
        finally:
            with counter_lock:
                running -= 1

    monkeypatch.setattr(network_node.engine, "detach", detach_and_count)
    calls = (
        coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS) for _ in range(16)
    )
    await asyncio.gather(*calls)
    assert running_max == 1
    assert coordinator_handler._container_locks._locks == {}


async def test_queued_calls_of_one_container_delay_no_other_container(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_detach = threading.Event()

    def detach_slowly_if_stuck(attachment: Attachment, first_nic: str) -> bool:
        return attachment.container != "stuck" or may_detach.wait(30.0)

    monkeypatch.setattr(network_node.engine, "detach", detach_slowly_if_stuck)
    delete_call = call(network_pod, "DEL")
    stuck_call = delete_call._replace(attachment=delete_call.attachment._replace(container="stuck"))
    stuck_deletes = [
        asyncio.create_task(coordinator_handler.handle_delete(stuck_call, NO_SETTINGS))
        for _ in range(2 * COORDINATOR_THREADS)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(20.0):
        assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)

    stuck_deletes[0].cancel()
    await asyncio.gather(stuck_deletes[0], return_exceptions=True)
    done_early = [task.done() for task in stuck_deletes[1:]]
    may_detach.set()
    assert await asyncio.gather(*stuck_deletes[1:]) == [True] * (2 * COORDINATOR_THREADS - 1)
    assert not any(done_early), "a DEL ran before the cancelled call released the container's lock"


async def test_a_del_waits_for_an_add_that_still_probes_and_then_reverts_it(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    is_probing, may_answer = asyncio.Event(), asyncio.Event()

    async def probe_slowly(_: Call, __: DetectionSwitches) -> None:
        is_probing.set()
        await may_answer.wait()

    handler = handler_with(network, network_node, Clock(), probe=probe_slowly)
    links_before = network_node.inside.ip("-brief", "link")
    add = asyncio.create_task(handler.handle_add(call(network_pod), NO_SETTINGS))
    await is_probing.wait()
    # The runtime has given up the ADD.
    delete = asyncio.create_task(handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS))
    other_pod = network.pod(network_node, "other")
    assert not await handler.handle_delete(call(other_pod, "DEL"), NO_SETTINGS)
    may_answer.set()
    await add

    assert await delete
    assert list(network_node.records.all()) == []
    assert network_node.inside.ip("-brief", "link") == links_before
    await asyncio.to_thread(handler.close)


async def test_a_del_runs_after_an_add_that_is_cancelled_while_it_probes(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    is_probing = asyncio.Event()

    async def probe_for_ever(_: Call, __: DetectionSwitches) -> None:
        is_probing.set()
        await asyncio.Event().wait()

    handler = handler_with(network, network_node, Clock(), probe=probe_for_ever)
    add = asyncio.create_task(handler.handle_add(call(network_pod), NO_SETTINGS))
    await is_probing.wait()
    delete = asyncio.create_task(handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS))
    await asyncio.sleep(0)
    add.cancel()

    assert not await delete
    assert handler._container_locks._locks == {}
    await asyncio.to_thread(handler.close)


async def test_gc_keeps_an_attachment_that_an_add_renews_meanwhile(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    is_probing, may_answer = asyncio.Event(), asyncio.Event()
    may_answer.set()

    async def probe_slowly(_: Call, __: DetectionSwitches) -> None:
        is_probing.set()
        await may_answer.wait()

    handler = handler_with(network, network_node, Clock(), probe=probe_slowly)
    await handler.handle_add(call(network_pod), NO_SETTINGS)
    (record,) = network_node.records.all()
    # The record of an earlier sandbox, whose network namespace is gone.
    network_node.records.put(structs.replace(record, netns="/run/netns/owt-deleted"))
    is_probing.clear()
    may_answer.clear()
    changed = read_settings({"txQueueLen": 100})
    add = asyncio.create_task(handler.handle_add(call(network_pod), changed))
    await is_probing.wait()
    gc = asyncio.create_task(handler.handle_gc(gc_call()))
    # The GC waits for the ADD.
    await until(lambda: handler._container_locks._locks[network_pod.container][1] == 2)
    may_answer.set()

    assert (await gc).removed == ()
    await add
    assert network_pod.check() == []
    await asyncio.to_thread(handler.close)
