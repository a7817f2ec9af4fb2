"""If a step of start or stop fails, the agent still closes everything that it has opened."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.eventstore.memory_store import MemoryStore
from core.process import connections, tcp_port
from nodeagent import agent as agent_module
from nodeagent.agent import Agent
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import running
from tests.support.descriptors import open_descriptors

Break = Callable[[Agent, pytest.MonkeyPatch], None]
"""Makes a step of an agent's start fail."""


class Broken(OSError):
    """An unexpected exception."""


def raise_broken(*_: object, **__: object) -> Any:
    raise Broken(28, "No space left on device")


async def raise_broken_in_coroutine(*_: object, **__: object) -> Any:
    raise Broken(28, "No space left on device")


def failing_part_method(name: str, method: str) -> Break:
    def break_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(getattr(agent.parts, name), method, raise_broken_in_coroutine)

    return break_it


def failing_agent_method(method: str, replacement: Callable[..., Any] = raise_broken) -> Break:
    def break_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agent, method, replacement)

    return break_it


def failing_listening_socket(number: int) -> Break:
    def break_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        listen, paths = agent._listen, []

        def listen_or_fail(path: str) -> Any:
            paths.append(path)
            return raise_broken() if len(paths) == number else listen(path)

        monkeypatch.setattr(agent, "_listen", listen_or_fail)

    return break_it


def break_tcp_port(_: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_port.TcpPort, "open", raise_broken_in_coroutine)


def break_cluster_ips(_: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "start_cluster_ips", raise_broken)


FAILING_START_STEPS: dict[str, Break] = {
    "sysctls": failing_agent_method("_prepare_node", raise_broken_in_coroutine),
    "cluster IPs": break_cluster_ips,
    "device plugin": failing_agent_method("_start_device_plugin"),
    "stale attachments": failing_part_method("coordinator_handler", "remove_stale"),
    "plugin log": failing_agent_method("open_servers", raise_broken_in_coroutine),
    "TCP port": break_tcp_port,
    "metrics": failing_agent_method("_open_metrics", raise_broken_in_coroutine),
    "framed socket": failing_listening_socket(1),
    "framed server": failing_part_method("framed", "open"),
    "HTTP socket": failing_listening_socket(2),
    "HTTP server": failing_part_method("http", "open"),
    "writer": failing_part_method("writer", "open"),
    "view": failing_part_method("view", "start"),
}

# Step of a stop -> part of the agent, and method that the step calls.
STOP_STEPS: dict[str, tuple[str, str]] = {
    "plugin log": ("plugin_log", "close"),
    "writer": ("writer", "close"),
    "view": ("view", "close"),
    "namespace thread": ("executor", "close"),
    "coordinator": ("coordinator_handler", "close"),
    "detector": ("detector", "close"),
    "supervised tasks": ("supervisor", "close"),
    "framed calls": ("framed", "end"),
    "HTTP calls": ("http", "end"),
    "drain": ("runner", "drain"),
    "framed socket": ("framed", "close"),
    "HTTP socket": ("http", "close"),
}


class OpenResources:
    """Finds resources that are newer than this object."""

    def __init__(self) -> None:
        self.descriptors = open_descriptors()
        self.threads = set(threading.enumerate())

    def new(self) -> list[str]:
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_coro() is not None]
        current_task = asyncio.current_task()
        assert current_task is not None
        tasks.remove(current_task.get_name())
        threads = [thread.name for thread in set(threading.enumerate()) - self.threads]
        descriptors = sorted(open_descriptors() - self.descriptors)
        return [*descriptors, *(name for name in threads if not name.startswith("asyncio")), *tasks]


@pytest.fixture
async def open_resources() -> OpenResources:
    await asyncio.to_thread(os.getpid)  # the loop starts its threads at first use
    return OpenResources()


@pytest.fixture(autouse=True)
def quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "END_S_MAX", 0.1)


@pytest.mark.parametrize("name", FAILING_START_STEPS)
async def test_a_start_that_fails_leaves_nothing_open(
    name: str,
    settings: Settings,
    memory_store: MemoryStore,
    open_resources: OpenResources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = Agent(settings._replace(metrics_enabled=name == "metrics"), memory_store)
    FAILING_START_STEPS[name](agent, monkeypatch)

    with pytest.raises(Broken):
        await agent.start()
    monkeypatch.undo()

    assert open_resources.new() == []
    assert not Path(settings.framed_socket_path).exists()
    assert not Path(settings.socket_path).exists()
    async with running(settings, memory_store) as node:  # node name and sockets are free
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        assert await node.add() == ["10.6.0.10/24"]


@pytest.mark.parametrize("name", STOP_STEPS)
async def test_a_stop_with_a_failed_step_leaves_nothing_open(
    name: str,
    settings: Settings,
    memory_store: MemoryStore,
    open_resources: OpenResources,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent(settings, memory_store)
    part, method = STOP_STEPS[name]
    target = getattr(agent.parts, part)
    close = getattr(target, method)

    async def close_and_fail(*args: object) -> None:
        ended = close(*args)
        if asyncio.iscoroutine(ended):
            await ended
        raise Broken(28, "No space left on device")

    def close_and_fail_at_once(*args: object) -> None:
        close(*args)
        raise Broken(28, "No space left on device")

    blocking = not asyncio.iscoroutinefunction(close)
    replacement = close_and_fail_at_once if blocking else close_and_fail
    monkeypatch.setattr(target, method, replacement)
    # The registered steps call the original methods, so register them again.
    agent._opened = type(agent._opened)()
    agent._register_parts_to_close()
    await agent.start()

    await agent.stop()

    assert open_resources.new() == []
    assert len(agent.stop_failures) == 1
    assert "No space left on device; closing the remaining resources" in caplog.text
    assert not Path(settings.framed_socket_path).exists()


async def test_a_cancelled_start_leaves_nothing_open(
    settings: Settings,
    memory_store: MemoryStore,
    open_resources: OpenResources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = Agent(settings, memory_store)
    start_waits_for_view = asyncio.Event()

    async def wait_for_ever() -> None:
        start_waits_for_view.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(agent.parts.view, "start", wait_for_ever)
    start_task = asyncio.ensure_future(agent.start())
    await start_waits_for_view.wait()
    start_task.cancel()
    await asyncio.wait({start_task})

    assert start_task.cancelled()
    del start_task
    assert open_resources.new() == []
