"""Start, readiness, drain and fencing of an agent.

Error code 11 is CNI's "try again later". Error code 131 is Orbweaver's, for a fenced agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from core.errors import BadInput, DeadlineExceeded, Overloaded
from core.eventstore.kv import Get, Guard, KeyValueStore, TxnResult, Write
from core.eventstore.memory_store import MemoryStore
from nodeagent.agent import Agent
from nodeagent.health import PROBE_CACHED_S
from nodeagent.request_runner import RequestRunner
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, ManualClock, exchange, request_frame, running
from tests.support.faulty_store import FaultyStore
from tests.support.http_caller import over_socket, over_tcp

PROBES = ("startup", "readiness", "liveness")


class SlowStore(FaultyStore):
    """A store whose commits wait until ``may_commit`` is set."""

    def __init__(self, store: KeyValueStore) -> None:
        super().__init__(store)
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.commit_is_waiting = asyncio.Event()

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        if not self.may_commit.is_set():
            self.commit_is_waiting.set()
            await self.may_commit.wait()
        return await super().commit(guards, writes, otherwise)


@pytest.fixture
async def slow_store(memory_store: MemoryStore) -> SlowStore:
    return SlowStore(memory_store)


@pytest.fixture
async def slow_node(settings: Settings, slow_store: SlowStore) -> AsyncIterator[AgentHarness]:
    async with running(settings, slow_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
        yield node
        slow_store.may_commit.set()


# Readiness


async def test_the_sockets_are_open_and_return_an_error_before_the_agent_is_ready(
    settings: Settings, memory_store: MemoryStore
) -> None:
    agent = Agent(settings, memory_store)
    await agent.open_servers()
    node = AgentHarness(agent)
    assert agent.health_port is not None
    port = agent.health_port.port

    add = (await node.call("ADD")).error
    delete = (await node.call("DEL")).error
    before = [(await over_tcp(port, f"/v1/runtime/{name}")).status for name in PROBES]
    await agent.become_ready()
    after = [(await over_tcp(port, f"/v1/runtime/{name}")).status for name in PROBES]

    await agent.stop()
    assert add["code"] == delete["code"] == 11
    assert add["msg"] == (
        "unhealthy spiderpool-agent backend, failed to check: the agent has not opened its"
        " event writer yet"
    )
    assert before == [500, 500, 200]
    assert after == [200, 200, 200]


async def test_an_agent_waits_for_an_etcd_that_does_not_answer_at_first(
    settings: Settings, memory_store: MemoryStore
) -> None:
    faulty = FaultyStore(memory_store)
    faulty.is_unavailable = True
    agent = Agent(settings, faulty)
    await agent.open_servers()
    start_task = asyncio.ensure_future(agent.become_ready())
    node = AgentHarness(agent)
    reply_without_etcd = await node.call("ADD")

    faulty.is_unavailable = False
    await start_task
    await node.pool("lan", "10.6.0.0/24", "10.6.0.10")

    assert reply_without_etcd.error["code"] == 11
    assert await node.add() == ["10.6.0.10/24"]
    await agent.stop()


async def test_the_readiness_endpoint_lists_each_check_on_a_line(
    settings: Settings, memory_store: MemoryStore, clock: ManualClock
) -> None:
    faulty = FaultyStore(memory_store)
    async with running(settings, faulty, monotonic=clock) as node:
        assert node.process.health_port is not None
        port = node.process.health_port.port
        ready = await over_tcp(port, "/readyz")
        faulty.is_unavailable = True
        clock.now += PROBE_CACHED_S
        not_ready = await over_tcp(port, "/readyz")
        alive = await over_tcp(port, "/livez")
        faulty.is_unavailable = False

    checks = "[+]fence ok\n[+]serving ok\n[+]writer ok\n[+]view ok\n[+]etcd ok\n"
    checks += "[+]task/cni-request-timeouts ok\n[+]task/configuration-view ok\n"
    checks += "[+]task/refusal-recorder ok\n"
    assert (ready.status, ready.body.decode()) == (
        200,
        f"{checks}readyz check passed\n",
    )
    assert not_ready.status == 500
    assert b"[-]etcd failed: etcd did not answer the last call" in not_ready.body
    assert (alive.status, alive.body.decode()) == (200, "[+]fence ok\nlivez check passed\n")


async def test_the_health_port_does_not_serve_ipam_requests(agent: AgentHarness) -> None:
    assert agent.process.health_port is not None
    port = agent.process.health_port.port

    replies = [
        await over_tcp(port, "/v1/ipam/ip", "POST"),
        await over_tcp(port, "/v1/ipam/healthy"),
    ]

    assert [reply.status for reply in replies] == [501, 501]


# Without etcd


async def test_a_delete_without_etcd_fails_and_can_be_repeated(
    settings: Settings, memory_store: MemoryStore, clock: ManualClock
) -> None:
    faulty = FaultyStore(memory_store)
    async with running(settings, faulty, monotonic=clock) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        await node.add()
        faulty.is_unavailable = True
        await over_socket(settings.socket_path, "GET", "/v1/ipam/healthy")
        error = (await node.call("DEL")).error
        faulty.is_unavailable = False
        clock.now += PROBE_CACHED_S
        await over_socket(settings.socket_path, "GET", "/v1/ipam/healthy")

        await node.delete()

        assert error["code"] == 11
        assert error["msg"].startswith("unhealthy spiderpool-agent backend, failed to check: ")
        assert await node.claims() == {}


# Drain


async def test_an_admitted_request_is_answered_when_the_agent_stops(
    slow_node: AgentHarness, slow_store: SlowStore, settings: Settings
) -> None:
    slow_store.may_commit.clear()
    admitted_add = asyncio.ensure_future(slow_node.add())
    await slow_store.commit_is_waiting.wait()
    stop_task = asyncio.ensure_future(slow_node.process.stop())
    await asyncio.sleep(0)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await slow_node.call("ADD", "web-1")

    slow_store.may_commit.set()
    (address,) = await admitted_add
    await stop_task

    assert address.startswith("10.6.0.")
    assert not Path(settings.framed_socket_path).exists()
    assert not Path(settings.socket_path).exists()


async def test_many_admitted_requests_are_all_answered(
    slow_node: AgentHarness, slow_store: SlowStore
) -> None:
    slow_store.may_commit.clear()
    admitted_adds = [asyncio.ensure_future(slow_node.add(f"web-{n}")) for n in range(40)]
    await slow_store.commit_is_waiting.wait()
    runner = slow_node.process.parts.runner
    async with asyncio.timeout(60):
        while runner.requests_under_way < 40:
            await asyncio.sleep(0)
    stop_task = asyncio.ensure_future(slow_node.process.stop())
    slow_store.may_commit.set()

    answers = await asyncio.gather(*admitted_adds)
    await stop_task

    assert len({address for (address,) in answers}) == 40


async def test_no_request_is_admitted_after_the_drain_has_begun() -> None:
    runner = RequestRunner()
    assert await runner.drain(1.0)

    with pytest.raises(Exception, match="the agent is shutting down"):
        runner.admit(1.0).__enter__()


# Limits


async def test_a_full_request_runner_refuses_requests() -> None:
    runner = RequestRunner(requests_max=1)
    continued = asyncio.Event()

    async def hold_request(seconds: float) -> None:
        with runner.admit(seconds):
            await continued.wait()

    first = asyncio.ensure_future(hold_request(60.0))
    await asyncio.sleep(0)

    with pytest.raises(Overloaded) as refused:
        await hold_request(1.0)
    continued.set()
    await first

    assert refused.value.message == (
        "failed to queue correctly: queue is full with a maximum length of 1"
    )
    await hold_request(1.0)


async def test_a_request_ends_without_a_claim_at_its_deadline(
    slow_node: AgentHarness, slow_store: SlowStore
) -> None:
    slow_store.may_commit.clear()
    blocking_add = asyncio.ensure_future(slow_node.call("ADD", "blocker"))
    await slow_store.commit_is_waiting.wait()
    slow_node.process.parts.handlers.add.deadline_s = 0.01

    late = (await slow_node.call("ADD", "late")).error
    slow_store.may_commit.set()
    await blocking_add
    await slow_node.process.parts.view.freshen()

    assert late["code"] == 11
    assert late["msg"] == "spiderpool IP allocation error: the request was not done within 0.01 s"
    assert "late" not in {claim.pod for claim in (await slow_node.claims()).values()}
    assert slow_node.process.parts.runner.requests_under_way == 0


async def test_a_missed_deadline_raises_deadline_exceeded() -> None:
    with pytest.raises(DeadlineExceeded, match="not done within"), RequestRunner().admit(0.001):
        await asyncio.Event().wait()


async def test_a_delete_waits_for_an_add_whose_caller_has_left(
    slow_node: AgentHarness, slow_store: SlowStore
) -> None:
    slow_store.may_commit.clear()
    request = request_frame(slow_node.environment("ADD"), json.dumps(slow_node.netconf()).encode())
    _, writer = await asyncio.open_unix_connection(slow_node.process.settings.framed_socket_path)
    writer.write(request)
    await slow_store.commit_is_waiting.wait()
    writer.transport.abort()
    delete_task = asyncio.ensure_future(slow_node.delete())
    async with asyncio.timeout(60):
        while slow_node.process.parts.runner.requests_under_way < 2:
            await asyncio.sleep(0)

    slow_store.may_commit.set()
    await delete_task

    assert await slow_node.claims() == {}


# Two agents


async def test_a_second_agent_of_the_same_name_fences_the_first(
    settings: Settings, memory_store: MemoryStore, agent: AgentHarness
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    settings_of_second = settings._replace(socket_path=f"{settings.socket_path}2")
    async with running(settings_of_second, memory_store) as second:
        error = (await agent.call("ADD", "web-0")).error
        port = agent.process.health_port
        assert port is not None
        alive = await over_tcp(port.port, "/v1/runtime/liveness")
        ready = await over_tcp(port.port, "/v1/runtime/readiness")

        assert error["code"] == 131
        assert "writer node-1 is fenced" in error["msg"]
        assert "give each agent its own node name" in error["details"]
        assert agent.process.ended.is_set()
        assert (alive.status, ready.status) == (500, 500)
        assert await second.add("web-0")
        assert {claim.pod for claim in (await agent.claims()).values()} == {"web-0"}


async def test_a_second_agent_on_the_same_socket_does_not_start(
    agent: AgentHarness, settings: Settings, memory_store: MemoryStore
) -> None:
    other = Agent(settings._replace(node_name="node-2"), memory_store)

    with pytest.raises(BadInput, match="another process listens on"):
        await other.start()

    await other.stop()
    assert (await agent.call("VERSION")).status == 0


async def test_the_error_of_a_port_in_use_names_the_setting(
    agent: AgentHarness, settings: Settings, memory_store: MemoryStore
) -> None:
    assert agent.process.health_port is not None
    port_in_use = agent.process.health_port.port
    other = Agent(settings._replace(node_name="node-2", health_port=port_in_use), memory_store)

    with pytest.raises(
        BadInput, match=f"cannot listen on port {port_in_use} of 127.0.0.1"
    ) as refused:
        await other.start()

    await other.stop()
    assert refused.value.subject == "SPIDERPOOL_HEALTH_PORT"


# The process


@pytest.mark.parametrize(
    ("variables", "code", "text"),
    [
        ({"SPIDERPOOL_HEALTH_PORT": "many"}, 2, "SPIDERPOOL_HEALTH_PORT 'many' is not a number"),
        ({"SPIDERPOOL_NODE_NAME": "a/b"}, 2, "SPIDERPOOL_NODE_NAME 'a/b' is not a name"),
    ],
)
def test_an_invalid_setting_ends_the_process_with_an_error_that_names_the_setting(
    variables: dict[str, str], code: int, text: str, short_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nodeagent.main", "--config-path", str(short_path / "absent.yml")],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code
    line = json.loads(done.stderr.splitlines()[-1])
    assert line["level"] == "CRITICAL"
    assert text in line["msg"]
    assert line["key"]


def test_the_process_waits_for_etcd_and_ends_cleanly_on_sigterm(short_path: Path) -> None:
    sock = short_path / "a.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "nodeagent.main"],
        env={
            "PATH": os.environ["PATH"],
            "SPIDERPOOL_NODE_NAME": "node-1",
            "SPIDERPOOL_HEALTH_PORT": "0",
            "ORBWEAVER_ETCD_ENDPOINTS": "127.0.0.1:1",
            "ORBWEAVER_SOCKET_PATH": str(sock),
        },
        stderr=subprocess.PIPE,
    )
    try:
        reply = asyncio.run(status_of_first_add(f"{sock}.fast", process))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert reply == 1
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert not sock.exists()


async def status_of_first_add(path: str, process: subprocess.Popen[bytes]) -> int:
    """Wait until the socket answers an ADD; return the status."""
    request = request_frame({"CNI_COMMAND": "ADD"}, b"{}")
    async with asyncio.timeout(60):
        while process.poll() is None:
            try:
                return (await exchange(path, request)).status
            except OSError:
                await asyncio.sleep(0.02)
    raise AssertionError("the process ended before it answered an ADD")
