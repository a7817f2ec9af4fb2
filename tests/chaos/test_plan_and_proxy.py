"""The plan of faults, and the proxy that causes the faults of a link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest

from tests.chaos.__main__ import main, read_options
from tests.chaos.garbage import GARBAGE_KINDS, ORPHANED_KEYS, OVERWRITTEN_KEYS
from tests.chaos.plan import Options, draw_plan
from tests.chaos.processes import Daemon, agent
from tests.chaos.proxy import Link
from tests.support.deadlines import until
from tests.support.etcd import free_ports

NO_ANSWER_WAIT_S = 0.2
STOP_S = 10.0

DEADLINE_S = 60.0


def test_plans_are_equal_only_if_the_seeds_are_equal() -> None:
    plan = draw_plan(Options(minutes=5, seed=7), GARBAGE_KINDS, clocks=True)

    assert plan == draw_plan(Options(minutes=5, seed=7), GARBAGE_KINDS, clocks=True)
    assert plan != draw_plan(Options(minutes=5, seed=8), GARBAGE_KINDS, clocks=True)
    assert all(0 < fault.at_s < 300 for fault in plan)
    assert len({fault.kind for fault in plan}) > 10


def test_a_long_plan_writes_garbage_to_every_kind_of_key() -> None:
    plan = draw_plan(Options(minutes=100), GARBAGE_KINDS, clocks=False)

    details = [fault.detail for fault in plan if fault.kind == "garbage"]
    written_keys = {kind.partition("/")[0] for detail in details for kind in detail.split(",")}
    assert written_keys == ORPHANED_KEYS.keys() | OVERWRITTEN_KEYS.keys()
    assert not any(fault.kind == "clock" for fault in plan)


def test_options_are_read_and_an_unknown_option_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert read_options({"minutes": "0.5", "seed": "3"}) == Options(minutes=0.5, seed=3)
    assert main(["hours=1"]) == 2
    assert "unknown option hours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "error"),
    [("seed", "option seed has no value"), ("seed=x", "seed=x"), ("minutes=long", "minutes=long")],
)
def test_an_option_with_a_wrong_value_is_refused_by_its_name(
    argument: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument]) == 2
    assert error in capsys.readouterr().err.splitlines()[0]


async def test_a_short_pause_does_not_shorten_a_longer_one(tmp_path: Path) -> None:
    daemon = agent(0, tmp_path, [])
    daemon.launch()
    try:
        daemon.pause(60.0)
        daemon.pause(0.0)
        daemon.resume()

        await until(lambda: is_stopped(daemon), STOP_S)
        assert is_stopped(daemon)
    finally:
        daemon.kill()


def is_stopped(daemon: Daemon) -> bool:
    assert daemon._process is not None
    stat = Path(f"/proc/{daemon._process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


class EchoClient:
    """A client of an echo server, connected through a link."""

    def __init__(self, link: Link) -> None:
        self.link = link

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.link.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def send(self, text: bytes = b"hello") -> bytes:
        self.writer.write(text)
        await self.writer.drain()
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(100)

    async def gets_no_answer(self) -> bool:
        try:
            async with asyncio.timeout(NO_ANSWER_WAIT_S):
                await self.send()
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            while await self.send():
                pass
        except ConnectionError:
            return True
        return False


@pytest.fixture
def received_by_server() -> bytearray:
    return bytearray()


@pytest.fixture
async def link(received_by_server: bytearray) -> AsyncIterator[Link]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            received_by_server.extend(data)
            writer.write(data)
        writer.close()

    link_port, server_port = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", server_port)
    link = Link(link_port, f"127.0.0.1:{server_port}")
    await link.open()
    yield link
    await link.close()
    server.close()


async def test_a_link_without_faults_forwards_data(link: Link) -> None:
    async with EchoClient(link) as client:
        assert await client.send() == b"hello"


async def test_a_stalled_link_forwards_no_data_until_it_is_healed(link: Link) -> None:
    async with EchoClient(link) as client:
        link.stall()
        assert await client.gets_no_answer()
        link.heal()
        assert await client.send(b"") == b"hello"  # sent by gets_no_answer


async def test_a_cut_resets_the_connection(link: Link) -> None:
    async with EchoClient(link) as client:
        assert await client.send() == b"hello"
        link.cut()
        assert await client.is_reset()


async def test_a_cut_in_a_message_forwards_the_first_bytes_before_the_reset(
    link: Link, received_by_server: bytearray
) -> None:
    async with EchoClient(link) as client:
        assert await client.send() == b"hello"
        link.cut_in_message(2)
        assert await client.is_reset()
    assert bytes(received_by_server) == b"hellohe"


async def test_a_half_open_connection_loses_data_without_a_reset(link: Link) -> None:
    async with EchoClient(link) as client:
        assert await client.send() == b"hello"
        link.half_open()
        assert await client.gets_no_answer()
    async with EchoClient(link) as client:
        assert await client.send() == b"hello", "a new connection must work"


async def test_a_refusing_link_resets_new_connections(link: Link) -> None:
    link.refuse()
    async with EchoClient(link) as client:
        assert await client.is_reset()
