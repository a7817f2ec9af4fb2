"""Flow control of a connection and its streams (RFC 9113, section 5.2).

The modules ``stream`` and ``connection`` widen the receive windows as answers are read.
``SendQueue`` observes the send windows, which the server widens.

A message that fits into the windows is written immediately. Of a larger message, the part that fits
is written, and the remainder waits for the server's WINDOW_UPDATE. Streams take turns, so that a
large request does not block small ones. A send window becomes negative only when the server reduces
INITIAL_WINDOW_SIZE.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import ErrorCode, ProtocolError

STREAM_WINDOW_BYTES: Final = 1 << 20
"""Bytes that etcd may send on one stream ahead of the reader.

At a round trip of 1 ms, the window allows 1 GB/s.
"""

CONNECTION_WINDOW_BYTES: Final = 1 << 24
"""Bytes that etcd may send on all streams together ahead of the event loop."""

_FRAMES_A_TURN: Final = 4
"""The most frames that a stream sends before the turn of the next stream."""


class SendingStream(Protocol):
    """The sending half of a call's stream. ``send_window``: bytes that the stream may send now."""

    stream_id: int
    send_window: int


class _Waiting:
    """The unsent data of one stream. ``ends``: the stream ends after this data."""

    __slots__ = ("call", "content", "ends")

    def __init__(self, call: SendingStream) -> None:
        self.call = call
        self.content = bytearray()
        self.ends = False


class SendQueue:
    """The unsent data of all streams. ``write`` sends bytes over the connection."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._window = frames.WINDOW_INITIAL
        self._frame_max = frames.FRAME_BYTES_MAX
        self._waiting: deque[_Waiting] = deque()
        self.stream_window = frames.WINDOW_INITIAL
        """The window of a new stream, in bytes."""

    def send(self, call: SendingStream, content: bytes, *, ends: bool, before: bytes = b"") -> None:
        """Send ``before`` (frames that no window limits), then the content in DATA frames.

        ``ends``: the stream ends after the content.
        """
        size = len(content)
        if not self._waiting and size <= min(self._window, call.send_window, self._frame_max):
            self._window -= size
            call.send_window -= size
            flags = frames.END_STREAM if ends else 0
            head = frames.header(size, frames.DATA, flags, call.stream_id)
            self._write(b"".join((before, head, content)))
            return
        waiting = next((other for other in self._waiting if other.call is call), None)
        if waiting is None:
            waiting = _Waiting(call)
            self._waiting.append(waiting)
        waiting.content += content
        waiting.ends = ends
        self.flush(before)

    def flush(self, before: bytes = b"") -> None:
        """Write ``before`` and the data that fits into the windows, in one write."""
        parts = [before] if before else []
        blocked = 0  # how many streams in succession have an empty window
        while self._window > 0 and blocked < len(self._waiting):
            waiting = self._waiting.popleft()
            if self._take_turn(waiting, parts):
                self._waiting.append(waiting)
                blocked = blocked + 1 if waiting.call.send_window <= 0 else 0
            else:
                blocked = 0
        if parts:
            self._write(b"".join(parts))

    def is_waiting(self, call: SendingStream) -> bool:
        """Whether a stream has unsent data."""
        return any(waiting.call is call for waiting in self._waiting)

    def drop(self, call: SendingStream) -> None:
        """Drop the unsent data of a stream that has ended."""
        if self._waiting:
            self._waiting = deque(waiting for waiting in self._waiting if waiting.call is not call)

    def widen(self, size: int) -> None:
        """Add ``size`` bytes to the connection's send window. Raises ProtocolError."""
        self._window = _widened(self._window, size)
        self.flush()

    def widen_stream(self, call: SendingStream, size: int) -> None:
        """Add ``size`` bytes to the stream's send window. Raises ProtocolError."""
        call.send_window = _widened(call.send_window, size)
        self.flush()

    def set_stream_window(self, size: int, calls: Iterable[SendingStream]) -> None:
        """Apply the server's INITIAL_WINDOW_SIZE, which changes the window of every stream."""
        difference = size - self.stream_window
        self.stream_window = size
        for call in calls:
            call.send_window = _widened(call.send_window, difference)
        self.flush()

    def set_frame_max(self, size: int) -> None:
        """Apply the server's MAX_FRAME_SIZE, in bytes."""
        self._frame_max = size

    def _take_turn(self, waiting: _Waiting, parts: list[bytes]) -> bool:
        """Add frames of one stream to ``parts``. Returns whether unsent data is left."""
        call, content = waiting.call, waiting.content
        for _ in range(_FRAMES_A_TURN):
            size = min(len(content), self._window, call.send_window, self._frame_max)
            if size <= 0:
                return True
            is_last = size == len(content)
            self._window -= size
            call.send_window -= size
            flags = frames.END_STREAM if is_last and waiting.ends else 0
            parts.append(frames.header(size, frames.DATA, flags, call.stream_id))
            parts.append(bytes(content[:size]))
            del content[:size]
            if is_last:
                return False
        return True


def _widened(window: int, size: int) -> int:
    if window + size > frames.WINDOW_MAX:
        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a send window exceeds 2^31-1 bytes")
    return window + size
