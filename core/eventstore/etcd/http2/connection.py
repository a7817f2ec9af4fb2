"""One HTTP/2 connection of a client (RFC 9113): settings, streams, and closing.

A stream that the server certainly did not process ends with an RpcError whose ``processed`` is
False: a stream that was not opened or was refused, or one with a higher id than the last stream in
GOAWAY.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import ClassVar, Final, cast

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.dead_peer_detection import Keepalive
from core.eventstore.etcd.http2.flow_control import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    SendQueue,
)
from core.eventstore.etcd.http2.frames import ErrorCode, Frame, ProtocolError
from core.eventstore.etcd.http2.headers import (
    HEADER_LIST_BYTES_MAX,
    BlockAssembler,
    response_headers,
)
from core.eventstore.etcd.http2.status import RpcError, StatusCode
from core.eventstore.etcd.http2.stream import RpcCall
from core.eventstore.etcd.http2.stream_table import StreamTable

SILENT_S_MAX: Final = 0.02
"""After this silence, a new call checks that the peer is connected."""

PING_ANSWER_S: Final = 0.05
"""The delay of the answer to a received PING.

To measure bandwidth, etcd sends a PING with every request, but only if every earlier PING was
answered. So the delay reduces the number of PING frames.
"""

_OUR_SETTINGS: Final = (
    (frames.HEADER_TABLE_SIZE, 0),
    (frames.ENABLE_PUSH, 0),
    (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
    (frames.MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES_MAX),
)


class Http2Connection(asyncio.Protocol):
    """The asyncio protocol of one connection. Calls are possible after ``ready`` has a result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._unparsed = b""
        self._blocks = BlockAssembler()
        self._received_bytes = 0
        self._streams = StreamTable()
        self._queue = SendQueue(self._write)
        self._keepalive = Keepalive(loop, self)
        self._end_error: RpcError | None = None
        self._is_draining = False
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when the server's settings arrive; an RpcError if the connection ends first."""

    @property
    def is_usable(self) -> bool:
        return (
            self._end_error is None
            and not self._is_draining
            and not self._streams.is_used_up
            and self.ready.done()
            and (self._keepalive.silent_s < SILENT_S_MAX or self._is_open())
        )

    @property
    def is_full(self) -> bool:
        return self._streams.is_full

    @property
    def is_busy(self) -> bool:
        return bool(self._streams.calls)

    def open(self, call: RpcCall, block: bytes, message: bytes | None) -> None:
        """Open the stream of a call. Raises RpcError.

        ``message``: the call's only message; None if the call sends its messages later.
        """
        if not self.is_usable:
            end = self._end_error
            raise _unprocessed(end.details if end else "the connection accepts no new calls")
        self._streams.add(call)
        call.send_window = self._queue.stream_window
        head = frames.encode_frame(frames.HEADERS, frames.END_HEADERS, call.stream_id, block)
        if message is None:
            self._write(head)
        else:
            call.half_closed = True
            self._queue.send(call, _prefixed(message), ends=True, before=head)
        self._keepalive.start()

    async def wait_for_free_stream(self) -> None:
        """Also returns when the connection ends."""
        while self.is_full and self._end_error is None:
            await self._streams.wait_for_change()

    def close(self, error: RpcError) -> None:
        """End every call with ``error``, and the connection. Only the first call has an effect."""
        if self._end_error is not None:
            return
        self._end_error = error
        self._keepalive.stop()
        for call in self._streams.clear():
            call.on_end(error)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # marks the error as retrieved, so asyncio does not warn
        if self._transport is not None:
            # close() would wait until a dead peer has received all bytes.
            self._transport.abort()
            self._transport = None

    # For calls (``stream.CallOwner``)

    def send(self, call: RpcCall, message: bytes, *, ends: bool) -> None:
        call.half_closed = ends
        self._queue.send(call, _prefixed(message), ends=ends)

    def grant(self, call: RpcCall, size: int) -> None:
        if self._streams.get(call.stream_id) is call:
            self._write(frames.window_update(call.stream_id, size))

    def abort(self, call: RpcCall) -> None:
        if self._streams.get(call.stream_id) is call:
            self._write(frames.rst_stream(call.stream_id, ErrorCode.CANCEL))
            self._remove(call)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        more = CONNECTION_WINDOW_BYTES - frames.WINDOW_INITIAL
        own_frames = frames.settings(_OUR_SETTINGS) + frames.window_update(0, more)
        self._write(frames.PREFACE + own_frames)

    def data_received(self, data: bytes) -> None:
        if self._end_error is not None:
            return
        self._keepalive.on_received()
        try:
            received, self._unparsed = frames.split(
                self._unparsed + data if self._unparsed else data
            )
            for frame in received:
                self._on_frame(frame)
        except ProtocolError as error:
            self._write(frames.goaway(error.code))
            self.close(_lost(f"etcd broke the HTTP/2 protocol: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The outcomes of open calls are unknown."""
        self.close(_lost(f"connection lost: {exc}" if exc else "etcd closed the connection"))

    # For the keepalive (``dead_peer_detection.Peer``)

    def ping(self) -> None:
        self._write(frames.encode_frame(frames.PING, flags=0, stream_id=0, payload=bytes(8)))

    def on_silence(self, seconds: float) -> None:
        self.close(_lost(f"etcd did not answer a ping within {seconds:g} s"))

    def _on_frame(self, received: Frame) -> None:
        if self._blocks.is_open and received.kind != frames.CONTINUATION:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "another frame interrupts a header block")
        handler = self._HANDLERS.get(received.kind)
        if handler is not None:
            handler(self, received)

    def _on_data(self, received: Frame) -> None:
        size = len(received.payload)
        self._received_bytes += size
        if self._received_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self._write(frames.window_update(0, self._received_bytes))
            self._received_bytes = 0
        call = self._streams.get(received.stream_id)
        if call is None:
            return  # the server sent this frame before it received our RST_STREAM
        if size:
            call.on_data(frames.without_padding(received), size)
        if received.flags & frames.END_STREAM and self._streams.get(received.stream_id) is call:
            self._finish(call)
            call.on_end(RpcError(StatusCode.INTERNAL, "the answer has no trailers"))

    def _on_headers(self, received: Frame) -> None:
        block = self._blocks.add(received)
        call = self._streams.get(block.stream_id) if block is not None else None
        if block is None or call is None:
            return
        headers = response_headers(block.content)
        if block.ends_stream:
            self._finish(call)
        call.on_headers(headers, ends=block.ends_stream)

    def _on_window_update(self, received: Frame) -> None:
        size = frames.read_number(received) & frames.WINDOW_MAX
        if not received.stream_id:
            self._queue.widen(size)
        else:
            call = self._streams.get(received.stream_id)
            if call is not None:
                self._queue.widen_stream(call, size)

    def _on_reset(self, received: Frame) -> None:
        code = frames.read_number(received)
        call = self._streams.get(received.stream_id)
        if call is None:
            return
        self._remove(call)
        if code == ErrorCode.REFUSED_STREAM:
            call.on_end(_unprocessed("etcd refused the stream"))
        else:
            call.on_end(RpcError(StatusCode.INTERNAL, f"etcd reset the stream with code {code}"))

    def _on_ping(self, received: Frame) -> None:
        if not received.flags & frames.ACK:
            answer = frames.encode_frame(
                frames.PING, frames.ACK, stream_id=0, payload=received.payload
            )
            self._loop.call_later(PING_ANSWER_S, self._write, answer)

    def _on_push(self, received: Frame) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE is disabled by our settings")

    def _on_settings(self, received: Frame) -> None:
        if received.flags & frames.ACK:
            return
        for name, value in frames.read_settings(received.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.WINDOW_MAX:
                    text = f"an initial window of {value} bytes exceeds the limit"
                    raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)
                self._queue.set_stream_window(value, self._streams.calls)
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_BYTES_MAX <= value <= frames.FRAME_SIZE_LIMIT:
                    text = f"a largest frame of {value} bytes is outside the limits"
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, text)
                self._queue.set_frame_max(value)
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self._streams.set_size_max(value)
        self._write(frames.encode_frame(frames.SETTINGS, frames.ACK, stream_id=0))
        if not self.ready.done():
            self.ready.set_result(None)

    def _on_goaway(self, received: Frame) -> None:
        last, code, text = frames.read_goaway(received.payload)
        self._is_draining = True
        error = _unprocessed(f"etcd is closing the connection with code {code} {text}".strip())
        for call in [call for call in self._streams.calls if call.stream_id > last]:
            self._remove(call)
            call.on_end(error)
        self._close_when_drained()

    def _finish(self, call: RpcCall) -> None:
        """End our side of a stream that the server has ended."""
        if not call.half_closed or self._queue.is_waiting(call):
            self._write(frames.rst_stream(call.stream_id, ErrorCode.CANCEL))
        self._remove(call)

    def _remove(self, call: RpcCall) -> None:
        if self._streams.remove(call):
            self._queue.drop(call)
            self._close_when_drained()

    def _close_when_drained(self) -> None:
        if self._is_draining and not self._streams.calls:
            self._loop.call_soon(self.close, _unprocessed("etcd closed the connection"))

    def _is_open(self) -> bool:
        """Ask the kernel whether the peer still has the connection open."""
        if self._transport is None:
            return False
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLRDHUP)
        return not poll.poll(0)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    _HANDLERS: ClassVar[dict[int, Callable[[Http2Connection, Frame], None]]] = {
        frames.DATA: _on_data,
        frames.HEADERS: _on_headers,
        frames.CONTINUATION: _on_headers,
        frames.RST_STREAM: _on_reset,
        frames.SETTINGS: _on_settings,
        frames.PUSH_PROMISE: _on_push,
        frames.PING: _on_ping,
        frames.GOAWAY: _on_goaway,
        frames.WINDOW_UPDATE: _on_window_update,
    }
    """RFC 9113: frames of other types are ignored."""


def _prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _lost(text: str) -> RpcError:
    return RpcError(StatusCode.UNAVAILABLE, text)


def _unprocessed(text: str) -> RpcError:
    return RpcError(StatusCode.UNAVAILABLE, text, processed=False)
