"""Idle connections and slow or malformed requests do not disturb the other callers of an agent.

An agent serves HTTP on the health port and on a Unix socket, and length-prefixed frames of the
CNI executables on a second Unix socket (``framed_socket_path``).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest

from core.eventstore.memory_store import MemoryStore
from core.process import bodies, connections
from core.process.bodies import BodyRefused, decompressed
from core.process.connections import raise_open_files_limit
from core.process.tcp_port import HEALTH_CONNECTIONS_MAX, TcpPort
from nodeagent.servers import framed_server
from nodeagent.servers.http_request_bodies import BODY_BYTES_MAX
from nodeagent.settings.agent_settings import Settings
from ops.kubernetes.admission.webhook_server import Admission, path_of
from tests.nodeagent.test_agent_on_etcd import AgentProcess
from tests.support.agent_harness import AgentHarness, request_frame, running
from tests.support.deadlines import until
from tests.support.etcd import EtcdCluster
from tests.support.http_caller import over_socket, over_tcp

if TYPE_CHECKING:
    from core.kubernetes.api_client import Api
    from core.projections.projector import Projector
    from ops.kubernetes.admission.validation import AdmissionValidator

IDLE_CONNECTIONS = 1_100
"""More than the usual soft limit of 1,024 open files."""


@pytest.fixture
async def agent(settings: Settings) -> AsyncIterator[AgentHarness]:
    async with running(settings, MemoryStore()) as agent:
        await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
        yield agent


@pytest.fixture
def raised_file_limit() -> Iterator[None]:
    """The test process itself opens more connections than the usual limit allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_open_files_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(port: int) -> socket.socket:
    client = socket.socket()
    client.connect(("127.0.0.1", port))
    return client


def health_port_of(agent: AgentHarness) -> int:
    assert agent.process.health_port is not None
    return agent.process.health_port.port


async def is_closed(client: socket.socket) -> bool:
    """Whether the peer closes the connection without an answer."""
    client.setblocking(False)
    with client:
        try:
            async with asyncio.timeout(30):
                return not await asyncio.get_running_loop().sock_recv(client, 1)
        except ConnectionResetError:
            return True


@pytest.mark.etcd
@pytest.mark.usefixtures("raised_file_limit")
# The soft and the hard limit of open files of the agent.
@pytest.mark.parametrize("files_max", [(1_024, 4_096), (1_024, 1_024)])
async def test_the_agent_serves_add_and_del_despite_idle_connections(
    tmp_path: Path, short_path: Path, settings: Settings, files_max: tuple[int, int]
) -> None:
    with EtcdCluster(tmp_path) as etcd:
        agent = AgentProcess(short_path, etcd, "idle", "agent", files_max=files_max)
        try:
            await agent.until_ready()
            idle_clients = await asyncio.to_thread(
                lambda: [connect(agent.health_port) for _ in range(IDLE_CONNECTIONS)]
            )
            variables = {
                "CNI_COMMAND": "ADD",
                "CNI_CONTAINERID": "c-web-0",
                "CNI_NETNS": "/run/netns/web-0",
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
                "CNI_PATH": "/opt/cni/bin",
            }
            conf = {
                "cniVersion": "1.1.0",
                "name": "lan",
                "type": "macvlan",
                "ipam": {"type": "spiderpool", "log_file_path": settings.plugin_log_path},
            }
            stdin = json.dumps(conf).encode()
            add = await agent.call(request_frame(variables, stdin))
            delete = await agent.call(request_frame(variables | {"CNI_COMMAND": "DEL"}, stdin))
            for client in idle_clients:
                client.close()
            ready = await over_tcp(agent.health_port, "/v1/runtime/readiness")
        finally:
            agent.process.kill()
            agent.process.wait()

    assert "no IPPool available" in add.error["msg"], (
        "expected an ADD that fails only because no pool exists"
    )
    assert (delete.status, delete.body) == (0, b"")
    assert ready.status == 200
    assert f"a connection was refused: {HEALTH_CONNECTIONS_MAX} are open" in agent.log.read_text()


async def test_a_port_closes_connections_above_its_limit_and_logs_once(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = health_port_of(agent)
    assert agent.process.health_port is not None
    monkeypatch.setattr(agent.process.health_port._server, "connections_max", 3)
    allowed_clients = [await asyncio.to_thread(connect, port) for _ in range(3)]
    await asyncio.sleep(0)
    refused_clients = [await asyncio.to_thread(connect, port) for _ in range(4)]

    assert [await is_closed(client) for client in refused_clients] == [True] * 4
    for client in allowed_clients:
        client.close()
    open_connections = agent.process.health_port._server.open_connections
    await until(lambda: not open_connections)
    assert (await over_tcp(port, "/livez")).status == 200
    assert agent.process.parts.connections.refused == 4
    assert caplog.text.count("health port: a connection was refused: 3 are open") == 1


@pytest.mark.parametrize("incomplete_head", [b"", b"GET /livez HTTP/1.1\r\nHost: a", b"POST / HT"])
async def test_a_connection_without_a_complete_request_head_is_closed(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch, incomplete_head: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.1)
    client = await asyncio.to_thread(connect, health_port_of(agent))
    client.sendall(incomplete_head)

    assert await is_closed(client)
    assert agent.process.parts.connections.timed_out == 1


async def test_a_connection_that_is_used_again_in_time_stays_open(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", health_port_of(agent))
    for _ in range(3):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"livez check passed\n")
    writer.close()

    assert agent.process.parts.connections.timed_out == 0


async def test_a_request_whose_body_does_not_arrive_gets_408(
    agent: AgentHarness, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S_MAX", 0.1)
    reader, writer = await asyncio.open_unix_connection(settings.socket_path)
    writer.write(
        b"POST /v1/ipam/ip HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )

    assert b" 408 " in await reader.readline()
    writer.close()


MALFORMED_REQUESTS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9.9\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nno colon here\r\n\r\n",
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("request_bytes", MALFORMED_REQUESTS, ids=range(len(MALFORMED_REQUESTS)))
@pytest.mark.parametrize("server", ["health", "socket"])
async def test_a_malformed_request_gets_4xx_or_501_and_logs_no_traceback(
    agent: AgentHarness,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    request_bytes: bytes,
    server: str,
) -> None:
    if server == "health":
        reader, writer = await asyncio.open_connection("127.0.0.1", health_port_of(agent))
    else:
        reader, writer = await asyncio.open_unix_connection(settings.socket_path)
    writer.write(request_bytes)
    async with asyncio.timeout(30):
        status = await reader.readline()
    writer.close()

    assert status.split()[1].startswith((b"4", b"501")), status
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def compressed(method: str, data: bytes) -> bytes:
    return gzip.compress(data, mtime=0) if method == "gzip" else zlib.compress(data)


@pytest.mark.parametrize("method", ["gzip", "deflate"])
async def test_a_compressed_request_body_is_decompressed(agent: AgentHarness, method: str) -> None:
    body = {"podNamespace": "shop", "podName": "web-0"}
    headers = {"Content-Type": "application/json", "Content-Encoding": method}
    path = agent.process.settings.socket_path
    data = compressed(method, json.dumps(body).encode())

    reply = await over_socket(path, "GET", "/v1/coordinator/config", data=data, headers=headers)

    assert reply.status == 200


@pytest.mark.parametrize("method", ["gzip", "deflate"])
def test_a_body_that_decompresses_above_the_limit_is_refused(method: str) -> None:
    data = compressed(method, b"\0" * (256 << 20))

    with pytest.raises(BodyRefused) as refused:
        decompressed(data, method, BODY_BYTES_MAX)

    assert refused.value.status == 413
    assert len(data) < BODY_BYTES_MAX


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [
        ("gzip", b"not gzip", 400),
        ("deflate", b"not deflate", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400),
        ("br", b"x", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), 415),
        ("gzip", gzip.compress(b"\0" * (BODY_BYTES_MAX + 1), mtime=0), 413),
    ],
)
async def test_a_body_that_cannot_be_decompressed_gets_4xx(
    agent: AgentHarness, caplog: pytest.LogCaptureFixture, encoding: str, data: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    path = agent.process.settings.socket_path

    reply = await over_socket(path, "POST", "/v1/ipam/ip", data=data, headers=headers)

    assert reply.status == status
    assert json.loads(reply.body)["code"] == status
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [
        ("gzip", gzip.compress(b"\0" * (64 << 20), mtime=0), 413),
        ("gzip", b"not gzip", 400),
        ("zstd", b"x", 415),
    ],
)
async def test_a_webhook_refuses_a_body_that_it_cannot_decompress(
    caplog: pytest.LogCaptureFixture, encoding: str, data: bytes, status: int
) -> None:
    # The webhook decodes the body before it uses these.
    unused = cast("Api", None), cast("Projector", None), cast("AdmissionValidator", None)
    port = TcpPort(Admission(*unused).app(), "webhook port", connections_max=8)
    await port.open("127.0.0.1", 0, "SPIDERPOOL_WEBHOOK_PORT")
    url = f"http://127.0.0.1:{port.port}{path_of('validate', 'SpiderIPPool')}"
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as session:
        answer = await session.post(url, data=data, headers=headers)
        answer.close()
    await port.close()

    assert answer.status == status
    assert "Traceback" not in caplog.text


async def test_framed_requests_together_have_a_limit_of_bytes(
    agent: AgentHarness, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framed_server, "ALL_REQUESTS_BYTES_MAX", 100_000)
    request = request_frame({"CNI_COMMAND": "VERSION"}, b" " * 60_000)
    reader, writer = await asyncio.open_unix_connection(settings.framed_socket_path)
    writer.write(request[:50_000])
    await until(lambda: agent.process.parts.framed.bytes_held == 50_000)

    refused = await agent.raw(request)
    writer.write(request[50_000:])
    served = await reader.read()
    writer.close()

    assert refused.error["code"] == 11  # CNI: try again later
    assert "running requests together have more than 100000 bytes" in refused.error["msg"]
    assert served[0] == 0
    assert agent.process.parts.framed.bytes_held == 0
    assert agent.process.parts.connections.refused == 1


async def test_the_bytes_of_a_request_are_freed_after_its_reply(agent: AgentHarness) -> None:
    await agent.call("VERSION")
    await agent.raw(b"nonsense")
    await agent.call("ADD")
    await asyncio.gather(*(agent.call("VERSION") for _ in range(20)))

    assert agent.process.parts.framed.bytes_held == 0
    assert not agent.process.parts.framed.connections


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
        raised = raise_open_files_limit()
        now = resource.getrlimit(resource.RLIMIT_NOFILE)
        os._exit(0 if now == (hard, hard) and raised == hard else 1)

    assert os.waitpid(pid, 0)[1] == 0
