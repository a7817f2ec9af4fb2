"""Bidirectional streams: messages in order, a slow reader, the end of the stream."""

from __future__ import annotations

import asyncio

import pytest

from core.eventstore.etcd.http2 import RpcError, StatusCode, frames
from core.eventstore.etcd.http2.flow_control import STREAM_WINDOW_BYTES
from core.eventstore.etcd.http2.stream import MESSAGE_BYTES_MAX
from tests.core.eventstore.etcd.http2.server import (
    DEADLINE_S,
    OK_TRAILERS,
    data,
    headers,
    message,
    of_kind,
    serving,
)
from tests.core.eventstore.etcd.http2.test_calls import CALL_METADATA, connect_channel


async def test_messages_are_received_in_order_before_the_end_of_the_stream() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = await channel.stream("/s/M", metadata=CALL_METADATA)
        (stream,) = await peer.requests()
        call.send(b"up 1")
        call.send(b"up 2")
        peer.send(headers(stream), data(stream, message(b"1") + message(b"2") + message(b"3")))
        peer.send(headers(stream, OK_TRAILERS, ends=True))

        assert [await call.receive() for _ in range(4)] == [b"1", b"2", b"3", None]
        data_frames = await peer.wait_for(of_kind(frames.DATA), 2)
        assert [frame.payload for frame in data_frames] == [message(b"up 1"), message(b"up 2")]
        with pytest.raises(RpcError):
            call.send(b"late")
        # The client resets a stream that the server has ended.
        await peer.wait_for(of_kind(frames.RST_STREAM))
        channel.close()


async def test_an_error_is_raised_after_all_earlier_messages_are_received() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = await channel.stream("/s/M", metadata=CALL_METADATA)
        (stream,) = await peer.requests()
        peer.send(headers(stream), data(stream, message(b"1")))
        peer.send(headers(stream, (("grpc-status", "14"), ("grpc-message", "gone")), ends=True))

        assert await call.receive() == b"1"
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert (caught.value.code, caught.value.details) == (StatusCode.UNAVAILABLE, "gone")
        channel.close()


async def test_a_reader_that_is_cancelled_loses_no_message() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = await channel.stream("/s/M", metadata=CALL_METADATA)
        (stream,) = await peer.requests()
        reader = asyncio.create_task(call.receive())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait({reader})
        peer.send(headers(stream), data(stream, message(b"1")))

        assert await asyncio.wait_for(call.receive(), DEADLINE_S) == b"1"
        channel.close()


async def test_a_slow_reader_delays_only_its_own_stream() -> None:
    content = bytes(10_000)
    count = STREAM_WINDOW_BYTES // len(message(content))
    async with serving() as server:
        channel, peer = await connect_channel(server)
        slow = await channel.stream("/s/M", metadata=CALL_METADATA)
        (stream,) = await peer.requests()
        peer.send(headers(stream), *(data(stream, message(content)) for _ in range(count)))
        other = asyncio.create_task(
            channel.unary("/s/M", b"?", timeout_s=DEADLINE_S, metadata=CALL_METADATA)
        )
        other_stream = (await peer.requests(2))[1]
        peer.send(headers(other_stream), data(other_stream, message(b"fine")))
        peer.send(headers(other_stream, OK_TRAILERS, ends=True))
        assert await other == b"fine"

        def is_window_update(frame: frames.Frame) -> bool:
            return frame.kind == frames.WINDOW_UPDATE and frame.stream_id == stream

        assert not [frame for frame in peer.frames if is_window_update(frame)]
        for _ in range(count):
            assert await slow.receive() == content
        (update,) = await peer.wait_for(is_window_update)
        assert frames.read_number(update) == count * len(message(content))
        channel.close()


async def test_a_cancelled_stream_is_reset_at_the_server() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = await channel.stream("/s/M", metadata=CALL_METADATA)
        reader = asyncio.create_task(call.receive())
        await asyncio.sleep(0)

        call.cancel()

        with pytest.raises(RpcError):
            await reader
        await peer.wait_for(of_kind(frames.RST_STREAM))
        channel.close()


async def test_a_message_beyond_the_limit_ends_the_stream_before_it_is_buffered() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = await channel.stream("/s/M", metadata=CALL_METADATA)
        (stream,) = await peer.requests()
        prefix = b"\0" + (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big")
        peer.send(headers(stream), data(stream, prefix))

        with pytest.raises(RpcError) as caught:
            await call.receive()
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        await peer.wait_for(of_kind(frames.RST_STREAM))
        channel.close()
