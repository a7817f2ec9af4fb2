"""One call on a connection: decodes the gRPC messages of a stream.

A gRPC message is a byte 0 (not compressed), four bytes of length, and the content. A message may
span frames, and a frame may contain several messages.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Protocol

from core.eventstore.etcd.http2.flow_control import STREAM_WINDOW_BYTES
from core.eventstore.etcd.http2.headers import ResponseHeaders
from core.eventstore.etcd.http2.status import RpcError, StatusCode, http_error, status_code

PREFIX_BYTES: Final = 5

MESSAGE_BYTES_MAX: Final = 1 << 29

HTTP_OK: Final = 200
_CONTENT_TYPE: Final = "application/grpc"


class CallOwner(Protocol):
    """The part of a connection that ``RpcCall`` uses."""

    def send(self, call: RpcCall, message: bytes, *, ends: bool) -> None: ...

    def grant(self, call: RpcCall, size: int) -> None:
        """Permit the server to send ``size`` more bytes on the call's stream."""

    def abort(self, call: RpcCall) -> None:
        """End the stream on both sides, unless it has ended."""


class RpcCall(ABC):
    """The receiving half of a stream. The connection calls ``on_*``."""

    __slots__ = (
        "_buffer",
        "_owner",
        "_received_bytes",
        "answered",
        "half_closed",
        "send_window",
        "stream_id",
    )

    def __init__(self, owner: CallOwner) -> None:
        self._owner = owner
        self._buffer = bytearray()
        self._received_bytes = 0
        self.answered = False  # the headers of the answer have arrived
        self.half_closed = False  # the last message of the call was given to ``send``
        self.send_window = 0
        """Bytes that the call may send now; ``SendQueue`` maintains the number."""
        self.stream_id = 0

    def on_headers(self, headers: ResponseHeaders, *, ends: bool) -> None:
        if ends:
            self.on_end(self._outcome(headers))
        elif not self.answered and not _is_informational(headers):
            self.answered = True
            error = _header_error(headers)
            if error is not None:
                self._owner.abort(self)
                self.on_end(error)

    def on_data(self, content: bytes, size: int) -> None:
        """``size``: bytes with padding."""
        if not self._buffer and _is_whole_message(content):
            self._on_message(content[PREFIX_BYTES:])
        else:
            self._buffer += content
            self._take_messages()
        self._received_bytes += size
        self._grant()

    @abstractmethod
    def on_end(self, error: RpcError | None) -> None:
        """Handle the end of the stream; ``error`` is None after success.

        Only the first call has an effect.
        """

    @abstractmethod
    def _on_message(self, message: bytes) -> None: ...

    def _accepts_more(self) -> bool:
        return True

    def _grant(self) -> None:
        if self._received_bytes >= STREAM_WINDOW_BYTES // 2 and self._accepts_more():
            self._owner.grant(self, self._received_bytes)
            self._received_bytes = 0

    def _take_messages(self) -> None:
        buffer = self._buffer
        while len(buffer) >= PREFIX_BYTES:
            if buffer[0]:
                self._owner.abort(self)
                self.on_end(RpcError(StatusCode.INTERNAL, "the answer is compressed"))
                return
            size = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
            if size > MESSAGE_BYTES_MAX:
                self._owner.abort(self)
                text = f"a message of {size} bytes exceeds the limit of {MESSAGE_BYTES_MAX}"
                self.on_end(RpcError(StatusCode.RESOURCE_EXHAUSTED, text))
                return
            end = PREFIX_BYTES + size
            if len(buffer) < end:
                return
            message = bytes(memoryview(buffer)[PREFIX_BYTES:end])
            del buffer[:end]
            self._on_message(message)

    def _outcome(self, trailers: ResponseHeaders) -> RpcError | None:
        if not self.answered:
            error = _header_error(trailers)
            if error is not None:
                return error
        if trailers.grpc_status is None:
            return RpcError(StatusCode.UNKNOWN, "the answer has no gRPC status")
        if trailers.grpc_status:
            return RpcError(status_code(trailers.grpc_status), trailers.grpc_message)
        if self._buffer:
            return RpcError(StatusCode.INTERNAL, "the answer ends within a message")
        return None


class UnaryCall(RpcCall):
    """A call with one request and one answer."""

    __slots__ = ("_answer", "_message", "_timer")

    def __init__(self, owner: CallOwner, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        super().__init__(owner)
        self._message: bytes | None = None
        self._answer: asyncio.Future[bytes] = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._expire)

    async def answer(self) -> bytes:
        """Wait for the answer. Raises RpcError. Cancelling the wait cancels the call."""
        try:
            return await self._answer
        finally:
            self._timer.cancel()
            if self._answer.cancelled():
                self._owner.abort(self)

    def on_end(self, error: RpcError | None) -> None:
        if self._answer.done():
            return
        if error is None and self._message is None:
            error = RpcError(StatusCode.INTERNAL, "the answer has no message")
        if error is not None:
            self._answer.set_exception(error)
        elif self._message is not None:
            self._answer.set_result(self._message)

    def _on_message(self, message: bytes) -> None:
        if self._message is not None:
            self._owner.abort(self)
            self.on_end(RpcError(StatusCode.INTERNAL, "the answer has two messages"))
        self._message = message

    def _expire(self) -> None:
        self._owner.abort(self)
        self.on_end(RpcError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


class StreamingCall(RpcCall):
    """A call with messages in both directions.

    The receive window grows only while no received message waits for ``receive``.
    """

    __slots__ = ("_end_error", "_messages", "_reader", "done")

    def __init__(self, owner: CallOwner) -> None:
        super().__init__(owner)
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._end_error: RpcError | None = None
        self.done = False

    def send(self, message: bytes) -> None:
        """Send one message. Raises RpcError if the stream has ended."""
        if self.done:
            raise self._end_error or RpcError(StatusCode.UNAVAILABLE, "the stream has ended")
        self._owner.send(self, message, ends=False)

    async def receive(self) -> bytes | None:
        """Wait for the next message; None if the server has ended the stream. Raises RpcError.

        Only one task may wait at a time.
        """
        while not self._messages:
            if self.done:
                if self._end_error is not None:
                    raise self._end_error
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        self._grant()
        return message

    def cancel(self) -> None:
        self._owner.abort(self)
        self.on_end(RpcError(StatusCode.CANCELLED, "the stream was closed"))

    def on_end(self, error: RpcError | None) -> None:
        if not self.done:
            self.done, self._end_error = True, error
            self._wake()

    def _on_message(self, message: bytes) -> None:
        self._messages.append(message)
        self._wake()

    def _accepts_more(self) -> bool:
        return not self._messages and not self.done

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _is_whole_message(content: bytes) -> bool:
    return (
        len(content) >= PREFIX_BYTES
        and not content[0]
        and int.from_bytes(content[1:PREFIX_BYTES], "big") == len(content) - PREFIX_BYTES
    )


def _is_informational(headers: ResponseHeaders) -> bool:
    return headers.status is not None and headers.status < HTTP_OK


def _header_error(headers: ResponseHeaders) -> RpcError | None:
    if headers.status != HTTP_OK and headers.grpc_status is None:
        return http_error(headers.status or 0)
    if not headers.content_type.startswith(_CONTENT_TYPE):
        text = f"the answer has content type {headers.content_type!r}, not {_CONTENT_TYPE}"
        return RpcError(StatusCode.UNKNOWN, text)
    return None
