"""Unix sockets of the agent: permissions, and which process owns a path."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import BadInput
from core.eventstore.memory_store import MemoryStore
from nodeagent.agent import Agent
from nodeagent.servers.unix_sockets import ListeningSocket
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, request_frame, running


async def test_only_root_may_open_the_sockets(agent: AgentHarness, settings: Settings) -> None:
    for path in (settings.socket_path, settings.framed_socket_path):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


async def test_a_stale_socket_file_is_replaced(
    settings: Settings, memory_store: MemoryStore
) -> None:
    for path in (settings.socket_path, settings.framed_socket_path):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)

    async with running(settings, memory_store) as node:
        assert (await node.call("VERSION")).status == 0


async def test_a_file_that_is_not_a_socket_is_not_replaced(
    settings: Settings, memory_store: MemoryStore
) -> None:
    Path(settings.framed_socket_path).write_text("precious")
    agent = Agent(settings, memory_store)

    with pytest.raises(BadInput, match="exists and is not a socket"):
        await agent.start()

    await agent.stop()
    assert Path(settings.framed_socket_path).read_text() == "precious"


def test_a_socket_file_of_another_process_is_not_removed(short_path: Path) -> None:
    path = short_path / "s.sock"
    first = ListeningSocket(str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as second:
        second.bind(str(path))

        first.remove()

        assert path.exists()
    path.unlink()
    ListeningSocket(str(path)).remove()
    assert not path.exists()


def test_a_second_agent_cannot_replace_a_socket_that_does_not_listen_yet(
    short_path: Path,
) -> None:
    path = short_path / "s.sock"
    first = ListeningSocket(str(path))
    inode = path.stat().st_ino

    with pytest.raises(BadInput, match=f"another process listens on {path}") as refused:
        ListeningSocket(str(path))

    assert path.stat().st_ino == inode
    assert "stop the process that listens there" in refused.value.remedy
    first.remove()
    ListeningSocket(str(path)).remove()


def test_the_lock_of_a_socket_ends_when_its_process_ends(short_path: Path) -> None:
    path = short_path / "s.sock"
    code = "import sys; from nodeagent.servers.unix_sockets import *\n"
    code += "s = ListeningSocket(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BadInput, match="another process listens on"):
            ListeningSocket(str(path))
        holder.kill()

    ListeningSocket(str(path)).remove()


@pytest.mark.parametrize("path", ["relative.sock", "/" + "x" * 200])
def test_an_invalid_socket_path_is_refused(path: str) -> None:
    with pytest.raises(BadInput, match="cannot be the path of a socket"):
        ListeningSocket(path)


def test_the_error_names_a_directory_that_cannot_be_created(short_path: Path) -> None:
    (short_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot create directory .*/file/below: "):
        ListeningSocket(f"{short_path}/file/below/a.sock")


async def test_a_caller_that_is_not_root_is_refused(
    agent: AgentHarness, settings: Settings
) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test changes its user and needs root")
    for path in (settings.socket_path, settings.framed_socket_path):
        Path(path).chmod(0o666)
    Path(settings.socket_path).parent.chmod(0o755)

    framed = await exchange_as_other_user(
        settings.framed_socket_path, request_frame({"CNI_COMMAND": "VERSION"}, b"{}")
    )
    http = await exchange_as_other_user(
        settings.socket_path, b"GET /v1/ipam/healthy HTTP/1.0\r\n\r\n"
    )

    assert framed == b""
    assert b" 403 " in http.splitlines()[0]


async def exchange_as_other_user(path: str, request: bytes) -> bytes:
    """Send a request as a user other than root; return the answer."""
    code = (
        "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
        "try:\n s.sendall(sys.stdin.buffer.read());s.settimeout(20)\n"
        " while d:=s.recv(65536): sys.stdout.buffer.write(d)\n"
        "except ConnectionError: pass"
    )
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/env",
        "python3",
        "-c",
        code,
        path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=65534,
        env={"PATH": "/usr/bin:/bin"},
    )
    answer, _ = await process.communicate(request)
    assert process.returncode == 0
    return answer
