"""Connections: GOAWAY, resets, protocol errors, keepalive and reconnects.

``RpcError.processed`` is false only if the server certainly did not process the call.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from core.eventstore.etcd.http2 import Channel, RpcError, StatusCode, dead_peer_detection, frames
from core.eventstore.etcd.http2.frames import ErrorCode
from tests.core.eventstore.etcd.http2.server import DEADLINE_S, answer, headers, of_kind, serving
from tests.core.eventstore.etcd.http2.test_calls import (
    CALL_METADATA,
    connect_channel,
    failure_of,
    start_call,
)


def goaway(last: int, code: int = 0, text: bytes = b"") -> bytes:
    """A GOAWAY frame; ``last`` is the last stream that the server processes."""
    return frames.encode_frame(frames.GOAWAY, 0, 0, struct.pack(">LL", last, code) + text)


async def test_calls_after_the_last_goaway_stream_fail_as_not_processed_and_others_finish() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        calls = [start_call(channel) for _ in range(3)]
        streams = await peer.requests(3)

        peer.send(goaway(streams[0], ErrorCode.NO_ERROR, b"shutting down"))

        for later_call in calls[1:]:
            error = await failure_of(later_call)
            assert not error.processed
            assert "shutting down" in error.details
        assert not channel.is_ready
        assert await channel.connect()
        second_peer = await server.peer(1)
        new_call = start_call(channel)
        second_peer.send(answer((await second_peer.requests())[0], b"new"))
        peer.send(answer(streams[0], b"old"))
        assert (await calls[0], await new_call) == (b"old", b"new")
        channel.close()


async def test_a_call_on_a_refused_stream_is_reported_as_not_processed() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()
        peer.send(frames.rst_stream(stream, ErrorCode.REFUSED_STREAM))

        assert not (await failure_of(call)).processed
        assert channel.is_ready
        channel.close()


async def test_a_call_on_a_closed_connection_is_reported_as_possibly_processed() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        stream = await channel.stream("/s/M", metadata=CALL_METADATA)
        await peer.requests(2)

        peer.close()

        error = await failure_of(call)
        assert (error.code, error.processed) == (StatusCode.UNAVAILABLE, True)
        with pytest.raises(RpcError):
            await stream.receive()
        assert not channel.is_ready
        channel.close()


@pytest.mark.parametrize("streams_max", [0, 1])
async def test_a_lost_connection_fails_waiting_calls_as_not_processed(streams_max: int) -> None:
    async with serving(((frames.MAX_CONCURRENT_STREAMS, streams_max),)) as server:
        channel, peer = await connect_channel(server)
        open_call = start_call(channel)
        waiting_call = start_call(channel)
        await peer.requests(streams_max)

        peer.close()

        error = await failure_of(waiting_call)
        assert (error.code, error.processed) == (StatusCode.UNAVAILABLE, False)
        assert (await failure_of(open_call)).processed == bool(streams_max)
        channel.close()


async def test_a_closed_channel_fails_open_calls_and_refuses_new_calls() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        await peer.requests()

        channel.close()

        assert (await failure_of(call)).code is StatusCode.CANCELLED
        assert not await channel.connect()
        assert not (await failure_of(start_call(channel))).processed


def pretend_silence(channel: Channel) -> None:
    """Pretend that no data came for a minute, so that the next call first checks the connection."""
    channel._connection._keepalive._received_at -= 60  # type: ignore[union-attr]


# Frames on stream 1 belong to the call of the test.
@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frames.header(1 << 20, frames.DATA, 0, 1),
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff"),
        frames.encode_frame(frames.HEADERS, 0, 1, b"")
        + frames.encode_frame(frames.PING, 0, 0, bytes(8)),
        frames.encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"x"),
        frames.encode_frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, bytes(4)),
        frames.encode_frame(frames.SETTINGS, 0, 0, b"\0"),
        frames.settings(((frames.INITIAL_WINDOW_SIZE, 1 << 31),)),
        frames.settings(((frames.MAX_FRAME_SIZE, 0),)),
        frames.settings(((frames.MAX_FRAME_SIZE, 1 << 24),)),
        frames.window_update(0, frames.WINDOW_MAX),
        frames.window_update(1, frames.WINDOW_MAX),
        frames.encode_frame(frames.RST_STREAM, 0, 1, b""),
        frames.encode_frame(frames.GOAWAY, 0, 0, b""),
        frames.encode_frame(frames.DATA, frames.PADDED, 1, b"\7"),
    ],
)
async def test_a_connection_ends_if_the_server_breaks_the_protocol(garbage: bytes) -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        await peer.requests()
        peer.send(garbage)

        error = await failure_of(call)

        assert (error.code, error.processed) == (StatusCode.UNAVAILABLE, True)
        assert not channel.is_ready
        channel.close()


async def test_connecting_fails_when_the_server_sends_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.eventstore.etcd.http2.channel.CONNECT_ATTEMPT_S", 0.05)
    async with serving(first=None) as server:
        channel = Channel(server.target, None)

        assert not await channel.connect()

        assert channel.failure == "no answer within 0.05 s"
        channel.close()


@pytest.mark.parametrize("port", ["65536", "9" * 5_000])
async def test_connecting_to_a_port_that_cannot_exist_fails(port: str) -> None:
    channel = Channel(f"127.0.0.1:{port}", None)

    assert not await channel.connect()

    channel.close()


async def test_connect_makes_no_attempt_directly_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RECONNECT_FIRST_S", "RECONNECT_MAX_S"):  # the pause after a failure
        monkeypatch.setattr(f"core.eventstore.etcd.http2.channel.{name}", DEADLINE_S)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    channel = Channel(f"127.0.0.1:{port}", None)
    assert not await channel.connect()

    async with serving(port=port) as server:
        assert not await channel.connect()  # an attempt would succeed now

        assert not server.peers
    channel.close()


async def test_calls_over_a_unix_socket_succeed_also_after_silence(tmp_path: Path) -> None:
    async with serving(path=str(tmp_path / "s")) as server:
        channel, peer = await connect_channel(server)
        for number in range(2):
            call = start_call(channel)
            peer.send(answer((await peer.requests(number + 1))[number], b"fine"))

            assert await call == b"fine"
            pretend_silence(channel)
        channel.close()


async def test_a_ping_of_the_server_is_answered() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        peer.send(frames.encode_frame(frames.PING, 0, 0, b"12345678"))

        (pong,) = await peer.wait_for(of_kind(frames.PING))

        assert (pong.flags, pong.payload) == (frames.ACK, b"12345678")
        channel.close()


@pytest.fixture
def short_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send keepalive pings after 20 ms of silence, and wait 10 ms for an answer."""
    monkeypatch.setattr(dead_peer_detection, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(dead_peer_detection, "KEEPALIVE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(dead_peer_detection, "SLACK_S", 0.0)


@pytest.mark.usefixtures("short_keepalive")
async def test_a_connection_ends_if_the_peer_answers_no_ping() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        peer.answers_pings = False
        call = start_call(channel)

        error = await failure_of(call)

        assert (error.code, error.processed) == (StatusCode.UNAVAILABLE, True)
        assert "ping" in error.details
        assert not channel.is_ready
        channel.close()


@pytest.mark.usefixtures("short_keepalive")
async def test_a_busy_connection_stays_open_while_its_pings_are_answered() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()
        await peer.wait_for(of_kind(frames.PING), 3)
        peer.send(answer(stream, b"fine"))

        assert await call == b"fine"
        assert channel.is_ready
        channel.close()


class IdleConnection:
    """A connection without calls; ``checked`` is set when ``Keepalive`` has checked it."""

    def __init__(self) -> None:
        self.checked = asyncio.Event()
        self.pings = 0

    @property
    def is_busy(self) -> bool:
        self.checked.set()
        return False

    def ping(self) -> None:
        self.pings += 1

    def on_silence(self, seconds: float) -> None:
        """Do nothing; ``Keepalive`` reports only the silence of a busy connection."""


@pytest.mark.usefixtures("short_keepalive")
async def test_an_idle_connection_is_not_pinged() -> None:
    connection = IdleConnection()
    keepalive = dead_peer_detection.Keepalive(asyncio.get_running_loop(), connection)

    keepalive.start()
    await asyncio.wait_for(connection.checked.wait(), DEADLINE_S)

    assert connection.pings == 0
    keepalive.stop()


async def test_a_closed_connection_is_detected_before_the_next_call_is_sent() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        peer.send(answer((await peer.requests())[0], b"fine"))
        assert await call == b"fine"
        peer.close()
        pretend_silence(channel)

        error = await failure_of(start_call(channel))

        assert not error.processed
        channel.close()


async def test_a_call_ends_when_trailers_arrive_before_its_request_is_sent() -> None:
    settings = ((frames.INITIAL_WINDOW_SIZE, 10),)
    async with serving(settings) as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel, bytes(100))  # larger than the window, so the request cannot end
        (stream,) = await peer.requests()
        pairs = (
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "8"),
            ("grpc-message", "grpc: received message larger than max"),
        )
        peer.send(headers(stream, pairs, ends=True))

        assert (await failure_of(call)).code is StatusCode.RESOURCE_EXHAUSTED
        await peer.wait_for(of_kind(frames.RST_STREAM))
        peer.send(frames.window_update(stream, 1_000))
        later_call = start_call(channel)
        peer.send(answer((await peer.requests(2))[1], b"fine"))
        assert await later_call == b"fine"
        channel.close()
