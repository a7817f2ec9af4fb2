"""An idle agent does not poll."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from nodeagent.servers import framed_server
from nodeagent.telemetry.plugin_log import LogTarget, PluginLog
from tests.support.agent_harness import AgentHarness

NO_TIMEOUT = None


class RecordingEvent(threading.Event):
    """An event that records the timeout of each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []
        self.wait_began = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        self.wait_began.set()
        return super().wait(timeout)


def test_the_thread_of_the_plugin_log_sleeps_until_there_is_a_line(short_path: Path) -> None:
    path = short_path / "plugin.log"
    log = PluginLog()
    event = log._is_woken = RecordingEvent()

    log.start()
    assert event.wait_began.wait(30)
    assert event.timeouts == [NO_TIMEOUT]
    log.write(LogTarget(str(path)), "info", {"number": 1})
    log.close()

    assert set(event.timeouts) == {NO_TIMEOUT}
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1]


async def test_the_framed_socket_checks_deadlines_only_while_callers_are_connected(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path = agent.process.parts.framed, agent.process.settings.framed_socket_path
    monkeypatch.setattr(framed_server, "TIMEOUT_CHECK_S", 0.01)
    monkeypatch.setattr(framed_server, "REQUEST_S_MAX", 0.05)
    assert not server.occupied.is_set()

    for _ in range(2):
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(30):
            answer = await reader.read()
            while server.occupied.is_set():
                await asyncio.sleep(0)
        writer.close()

        assert b"the request did not arrive within" in answer
