"""A request is not started if its caller has closed the connection.

The caller of an abandoned ADD sends a DEL next. An ADD after that DEL would leak its address.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

from core.domain.request_facts import PodReference
from core.errors import CallerGone
from nodeagent.request_runner import RequestRunner
from nodeagent.servers.unix_sockets import has_hung_up
from nodeagent.telemetry.metrics import WorkCounts
from tests.support.agent_harness import AgentHarness, request_frame
from tests.support.http_caller import over_socket

TIMEOUT_S = 20.0


def framed_request(agent: AgentHarness, command: str) -> tuple[str, bytes]:
    """The path of the framed socket, and the bytes of a request."""
    request = request_frame(agent.environment(command), json.dumps(agent.netconf()).encode())
    return agent.process.settings.framed_socket_path, request


def http_request(agent: AgentHarness, command: str) -> tuple[str, bytes]:
    """The path of the HTTP socket, and the bytes of a request."""
    body = json.dumps(http_body()).encode()
    head = f"{'POST' if command == 'ADD' else 'DELETE'} /v1/ipam/ip HTTP/1.1\r\nHost: agent\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return agent.process.settings.socket_path, head.encode() + body


def http_body() -> dict[str, str]:
    return {
        "containerID": "c-web-0",
        "ifName": "eth0",
        "netNamespace": "/run/netns/web-0",
        "podNamespace": "shop",
        "podName": "web-0",
        "podUID": "uid-web-0",
    }


RequestBuilder = Callable[[AgentHarness, str], tuple[str, bytes]]
EACH_SOCKET = pytest.mark.parametrize("build_request", [framed_request, http_request])


async def abandon(path: str, request: bytes) -> None:
    """Send a request and close the connection before the agent reads it."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        caller.sendall(request)


async def wait_until_served(agent: AgentHarness) -> None:
    """Wait until all earlier connections are served and closed."""
    parts = agent.process.parts
    # Each socket accepts connections in order.
    assert (await agent.call("VERSION")).status == 0
    await over_socket(agent.process.settings.socket_path, "GET", "/v1/ipam/healthy")
    async with asyncio.timeout(TIMEOUT_S):
        while parts.framed.connections or parts.runner.requests_under_way:
            await asyncio.sleep(0)


@EACH_SOCKET
async def test_an_unread_add_claims_nothing_if_its_caller_is_gone(
    agent: AgentHarness, build_request: RequestBuilder
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    await abandon(*build_request(agent, "ADD"))
    await wait_until_served(agent)

    assert await agent.claims() == {}


@EACH_SOCKET
async def test_an_abandoned_add_does_not_run_after_a_delete_at_the_other_socket(
    agent: AgentHarness, build_request: RequestBuilder
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    await abandon(*build_request(agent, "ADD"))
    if build_request is framed_request:
        path = agent.process.settings.socket_path
        assert (await over_socket(path, "DELETE", "/v1/ipam/ip", http_body())).status == 200
    else:
        await agent.delete()
    await wait_until_served(agent)

    assert await agent.claims() == {}


@EACH_SOCKET
async def test_an_unread_delete_releases_nothing_if_its_caller_is_gone(
    agent: AgentHarness, build_request: RequestBuilder
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    await abandon(*build_request(agent, "DEL"))
    await wait_until_served(agent)

    assert len(await agent.claims()) == 1


@EACH_SOCKET
async def test_an_add_claims_nothing_if_its_caller_leaves_during_the_pod_lookup(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch, build_request: RequestBuilder
) -> None:
    lookup_started, lookup_may_end = asyncio.Event(), asyncio.Event()

    async def load_pod(_: PodReference) -> None:
        lookup_started.set()
        await lookup_may_end.wait()

    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    monkeypatch.setattr(agent.process.parts.facts, "complete_facts", lambda _: None)
    monkeypatch.setattr(agent.process.parts.facts, "load_pod", load_pod)
    transactions = agent.process.parts.writer.transactions
    path, request = build_request(agent, "ADD")
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        caller.sendall(request)
        await lookup_started.wait()
    deleting = asyncio.ensure_future(agent.delete())
    async with asyncio.timeout(TIMEOUT_S):
        while agent.process.parts.runner.requests_under_way < 2:
            await asyncio.sleep(0)

    lookup_may_end.set()
    await deleting
    await wait_until_served(agent)

    assert await agent.claims() == {}
    assert agent.process.parts.writer.transactions == transactions


async def test_an_abandoned_call_is_counted(agent: AgentHarness) -> None:
    await abandon(*framed_request(agent, "VERSION"))
    await wait_until_served(agent)

    assert agent.process.parts.connections.abandoned == 1


def test_an_add_whose_caller_is_gone_is_never_registered() -> None:
    runner, counts = RequestRunner(), WorkCounts()

    def has_hung_up() -> bool:
        return True

    with (
        pytest.raises(CallerGone),
        runner.run_add(
            deadline_s=30.0, work=counts, arrived=0.0, container="c-1", has_hung_up=has_hung_up
        ),
    ):
        raise AssertionError("the ADD has started")

    with pytest.raises(StopIteration):  # ``wait_for_adds`` does not wait
        runner.wait_for_adds("c-1").__await__().__next__()
    assert counts.count == 0


def test_has_hung_up_is_true_after_the_caller_closes_or_shuts_down_its_socket() -> None:
    ours, caller = socket.socketpair()
    with ours, caller:
        assert not has_hung_up(ours)
        caller.sendall(b"bytes that wait to be read change nothing")
        assert not has_hung_up(ours)
        caller.shutdown(socket.SHUT_WR)
        assert has_hung_up(ours)
    ours, caller = socket.socketpair()
    with ours:
        caller.close()
        assert has_hung_up(ours)
