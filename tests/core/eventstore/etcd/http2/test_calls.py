"""Calls: answers, errors, deadlines, cancellations and large messages."""

from __future__ import annotations

import asyncio
import re

import pytest

from core.eventstore.etcd.http2 import Channel, RpcError, StatusCode, frames
from core.eventstore.etcd.http2.flow_control import STREAM_WINDOW_BYTES
from core.eventstore.etcd.http2.frames import ErrorCode
from tests.core.eventstore.etcd.http2.server import (
    DEADLINE_S,
    GRPC_ANSWER,
    OK_TRAILERS,
    Peer,
    Server,
    answer,
    data,
    header_block,
    headers,
    message,
    of_kind,
    serving,
)

CALL_METADATA = (("hasleader", "true"),)


async def connect_channel(server: Server) -> tuple[Channel, Peer]:
    """Connect a channel; return the channel and the server's side of the connection."""
    channel = Channel(server.target, None)
    assert await channel.connect()
    return channel, await server.peer(len(server.peers) - 1)


def start_call(channel: Channel, content: bytes = b"?") -> asyncio.Task[bytes]:
    return asyncio.create_task(
        channel.unary("/s/M", content, timeout_s=DEADLINE_S, metadata=CALL_METADATA)
    )


async def failure_of(call: asyncio.Task[bytes]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


async def test_answers_in_reverse_order_and_in_single_bytes_reach_their_callers() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        calls = [start_call(channel, b"%d" % number) for number in range(20)]
        streams = await peer.requests(len(calls))

        for stream in reversed(streams):
            for byte in answer(stream, b"to %d" % stream):
                peer.send(bytes([byte]))

        assert await asyncio.gather(*calls) == [b"to %d" % stream for stream in streams]
        channel.close()


async def test_a_request_has_the_content_and_ends_the_clients_side_of_the_stream() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel, b"content")
        (request,) = await peer.wait_for(of_kind(frames.DATA))
        peer.send(answer(request.stream_id, b""))

        assert await call == b""
        assert request.payload == message(b"content")
        assert request.flags == frames.END_STREAM
        channel.close()


async def test_a_grpc_status_raises_an_error_with_its_message() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()
        trailers = (*GRPC_ANSWER, ("grpc-status", "7"), ("grpc-message", "not%20you"))
        peer.send(headers(stream, trailers, ends=True))

        error = await failure_of(call)

        assert (error.code, error.details) == (StatusCode.PERMISSION_DENIED, "not you")
        assert error.processed
        channel.close()


@pytest.mark.parametrize(
    ("response", "code"),
    [
        # The response has no trailers.
        ([headers(1), data(1, message(b"x"), ends=True)], StatusCode.INTERNAL),
        # The response has no message.
        ([headers(1), headers(1, OK_TRAILERS, ends=True)], StatusCode.INTERNAL),
        # The response has two messages.
        (
            [headers(1), data(1, message(b"x") * 2), headers(1, OK_TRAILERS, ends=True)],
            StatusCode.INTERNAL,
        ),
        # The message is compressed.
        ([headers(1), data(1, b"\1\0\0\0\0")], StatusCode.INTERNAL),
        # The message is incomplete.
        (
            [headers(1), data(1, message(b"xy")[:-1]), headers(1, OK_TRAILERS, ends=True)],
            StatusCode.INTERNAL,
        ),
        # The gRPC status is missing or unknown, or the content type is wrong.
        ([headers(1), headers(1, (("x", "y"),), ends=True)], StatusCode.UNKNOWN),
        ([headers(1), headers(1, (("grpc-status", "99"),), ends=True)], StatusCode.UNKNOWN),
        ([headers(1, ((":status", "200"), ("content-type", "text/html")))], StatusCode.UNKNOWN),
        # HTTP reports an error, or the stream is reset.
        ([headers(1, ((":status", "503"),), ends=True)], StatusCode.UNAVAILABLE),
        ([headers(1, ((":status", "404"),))], StatusCode.UNIMPLEMENTED),
        ([frames.rst_stream(1, ErrorCode.INTERNAL_ERROR)], StatusCode.INTERNAL),
    ],
)
async def test_an_invalid_response_fails_its_call_and_keeps_the_connection(
    response: list[bytes], code: StatusCode
) -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        await peer.requests()
        peer.send(*response)

        error = await failure_of(call)

        assert (error.code, error.processed) == (code, True)
        later_call = start_call(channel)
        peer.send(answer((await peer.requests(2))[1], b"fine"))
        assert await later_call == b"fine"
        channel.close()


async def test_interim_headers_and_unknown_frames_are_ignored() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()
        peer.send(
            headers(stream, ((":status", "103"),)), frames.encode_frame(0x42, 0xFF, stream, b"?")
        )
        peer.send(answer(stream, b"fine"))

        assert await call == b"fine"
        channel.close()


async def test_padded_and_continued_answers_are_read() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()
        first = header_block(GRPC_ANSWER)
        peer.send(frames.encode_frame(frames.HEADERS, 0, stream, first[:3]))
        peer.send(frames.encode_frame(frames.CONTINUATION, frames.END_HEADERS, stream, first[3:]))
        padded = b"\4" + message(b"fine") + bytes(4)
        peer.send(frames.encode_frame(frames.DATA, frames.PADDED, stream, padded))
        peer.send(headers(stream, OK_TRAILERS, ends=True))

        assert await call == b"fine"
        channel.close()


async def test_a_call_fails_at_its_deadline_and_is_cancelled_at_the_server() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)

        with pytest.raises(RpcError) as caught:
            await channel.unary("/s/M", b"?", timeout_s=0.01, metadata=CALL_METADATA)

        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        (reset,) = await peer.wait_for(of_kind(frames.RST_STREAM))
        assert frames.read_number(reset) == ErrorCode.CANCEL
        channel.close()


async def test_a_cancelled_call_is_ended_at_the_server_and_its_late_answer_is_dropped() -> None:
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()

        call.cancel()
        await peer.wait_for(of_kind(frames.RST_STREAM))
        peer.send(answer(stream, b"late"))

        assert (await asyncio.gather(call, return_exceptions=True))[0].__class__ is (
            asyncio.CancelledError
        )
        later_call = start_call(channel)
        peer.send(answer((await peer.requests(2))[1], b"fine"))
        assert await later_call == b"fine"
        channel.close()


async def test_the_client_extends_its_window_while_a_huge_answer_arrives() -> None:
    size = 5 * STREAM_WINDOW_BYTES + 17
    async with serving() as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel)
        (stream,) = await peer.requests()

        async def send_within_the_window() -> None:
            encoded = headers(stream) + data(stream, message(b"v" * size))
            response_frames, _ = frames.split(encoded)
            window = STREAM_WINDOW_BYTES
            grants = 0
            for frame in response_frames:
                while frame.kind == frames.DATA and window < len(frame.payload):
                    grants += 1
                    updates = await peer.wait_for(
                        lambda received: (
                            received.kind == frames.WINDOW_UPDATE and received.stream_id == stream
                        ),
                        grants,
                    )
                    window += frames.read_number(updates[grants - 1])
                window -= len(frame.payload) if frame.kind == frames.DATA else 0
                peer.send(frames.encode_frame(*frame))
            peer.send(headers(stream, OK_TRAILERS, ends=True))

        await asyncio.wait_for(send_within_the_window(), DEADLINE_S)
        assert await call == b"v" * size
        channel.close()


async def test_a_large_request_waits_for_the_window_and_does_not_delay_a_small_request() -> None:
    settings = ((frames.INITIAL_WINDOW_SIZE, 1_000),)
    large = bytes(range(256)) * 400
    async with serving(settings) as server:
        channel, peer = await connect_channel(server)
        call = start_call(channel, large)
        (stream,) = await peer.requests()
        small_call = start_call(channel, b"small")
        streams = await peer.requests(2)
        peer.send(answer(streams[1], b"first"))
        assert await small_call == b"first"

        def sent_content() -> bytes:
            return b"".join(
                frame.payload
                for frame in peer.frames
                if frame.kind == frames.DATA and frame.stream_id == stream
            )

        assert len(sent_content()) == 1_000
        peer.send(frames.window_update(0, len(large)))
        peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 2_000),)))
        peer.send(frames.window_update(stream, len(large)))
        await peer.wait_for(
            lambda frame: (
                frame.stream_id == stream
                and frame.kind == frames.DATA
                and bool(frame.flags & frames.END_STREAM)
            )
        )
        assert sent_content() == message(large)
        peer.send(answer(stream, b"second"))
        assert await call == b"second"
        channel.close()


async def test_the_client_opens_no_more_streams_than_the_server_allows() -> None:
    async with serving(((frames.MAX_CONCURRENT_STREAMS, 2),)) as server:
        channel, peer = await connect_channel(server)
        calls = [start_call(channel) for _ in range(7)]
        for number in range(len(calls)):
            streams = await peer.requests(number + 1)
            assert len(streams) <= number + 2  # ``number`` calls are answered, two may be open
            peer.send(answer(streams[number], b"%d" % number))

        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(len(calls))]
        channel.close()


async def test_a_call_without_a_stream_is_reported_as_not_processed() -> None:
    async with serving(((frames.MAX_CONCURRENT_STREAMS, 0),)) as server:
        channel, _ = await connect_channel(server)

        with pytest.raises(RpcError) as caught:
            await channel.unary("/s/M", b"?", timeout_s=0.01, metadata=CALL_METADATA)

        assert not caught.value.processed
        channel.close()


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_cancelled_waiter_leaves_a_free_stream_to_the_next(cancelled_first: bool) -> None:
    async with serving(((frames.MAX_CONCURRENT_STREAMS, 1),)) as server:
        channel, peer = await connect_channel(server)
        only_stream = await channel.stream("/s/M", metadata=CALL_METADATA)
        first, second = start_call(channel), start_call(channel)
        await asyncio.sleep(0)
        # Both happen before a waiter runs.
        if cancelled_first:
            first.cancel()
        only_stream.cancel()
        first.cancel()

        peer.send(answer((await peer.requests(2))[1], b"fine"))

        assert await second == b"fine"
        assert first.cancelled()
        channel.close()


async def test_the_wait_for_a_stream_shortens_the_deadline_of_a_call() -> None:
    async with serving(((frames.MAX_CONCURRENT_STREAMS, 1),)) as server:
        channel, peer = await connect_channel(server)
        only_stream = await channel.stream("/s/M", metadata=CALL_METADATA)
        call = start_call(channel)
        await asyncio.wait({call}, timeout=0.1)
        only_stream.cancel()

        _, request = await peer.wait_for(of_kind(frames.HEADERS), 2)

        timeout = re.search(rb"grpc-timeout.(\d+)m", request.payload)
        assert timeout is not None
        assert int(timeout[1]) <= (DEADLINE_S - 0.05) * 1000
        peer.send(answer(request.stream_id, b"fine"))
        assert await call == b"fine"
        channel.close()
