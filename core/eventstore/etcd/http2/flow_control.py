"""Flow control of a connection and its streams (RFC 9113, section 5.2).

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
"""Bytes that etcd may send on a stream ahead of the reader: 1 GB/s at a round trip of 1 ms."""

CONNECTION_WINDOW_BYTES: Final = 1 << 24
"""Bytes that etcd may send on all streams ahead of the event loop."""

_FRAMES_A_TURN: Final = 4


class SendingStream(Protocol):
    """The sending half of a stream. ``send_window``: bytes that the stream may send now."""

    stream_id: int
    send_window: int


class _UnsentData:
    __slots__ = ("call", "content", "ends")

    def __init__(self, call: SendingStream) -> None:
        self.call = call
        self.content = bytearray()
        self.ends = False  # whether the stream ends after the content


class SendQueue:
    """The unsent data of all streams."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._window = frames.WINDOW_INITIAL
        self._frame_max = frames.FRAME_BYTES_MAX
        self._unsent: deque[_UnsentData] = deque()
        self.stream_window = frames.WINDOW_INITIAL

    def send(self, call: SendingStream, content: bytes, *, ends: bool, before: bytes = b"") -> None:
        """Send ``before`` at once, and the content in DATA frames as the windows permit.

        ``ends``: the stream ends after the content.
        """
        size = len(content)
        if not self._unsent and size <= min(self._window, call.send_window, self._frame_max):
            self._window -= size
            call.send_window -= size
            flags = frames.END_STREAM if ends else 0
            head = frames.header(size, frames.DATA, flags, call.stream_id)
            self._write(b"".join((before, head, content)))
            return
        unsent_data = next((other for other in self._unsent if other.call is call), None)
        if unsent_data is None:
            unsent_data = _UnsentData(call)
            self._unsent.append(unsent_data)
        unsent_data.content += content
        unsent_data.ends = ends
        self.flush(before)

    def flush(self, before: bytes = b"") -> None:
        """Write ``before`` and the data that fits into the windows, in one write."""
        parts = [before] if before else []
        blocked_streams = 0  # since the last stream that could send more
        while self._window > 0 and blocked_streams < len(self._unsent):
            unsent_data = self._unsent.popleft()
            if self._take_turn(unsent_data, parts):
                self._unsent.append(unsent_data)
                blocked_streams = blocked_streams + 1 if unsent_data.call.send_window <= 0 else 0
            else:
                blocked_streams = 0
        if parts:
            self._write(b"".join(parts))

    def is_waiting(self, call: SendingStream) -> bool:
        """Whether a stream has unsent data."""
        return any(unsent_data.call is call for unsent_data in self._unsent)

    def drop(self, call: SendingStream) -> None:
        """Forget the data of a stream that has ended."""
        if self._unsent:
            self._unsent = deque(
                unsent_data for unsent_data in self._unsent if unsent_data.call is not call
            )

    def widen(self, size: int) -> None:
        """Widen the connection's send window. Raises ProtocolError."""
        self._window = _widened(self._window, size)
        self.flush()

    def widen_stream(self, call: SendingStream, size: int) -> None:
        """Widen one stream's send window. Raises ProtocolError."""
        call.send_window = _widened(call.send_window, size)
        self.flush()

    def set_stream_window(self, size: int, calls: Iterable[SendingStream]) -> None:
        """Apply the server's INITIAL_WINDOW_SIZE to every stream. Raises ProtocolError."""
        difference = size - self.stream_window
        self.stream_window = size
        for call in calls:
            call.send_window = _widened(call.send_window, difference)
        self.flush()

    def set_frame_max(self, size: int) -> None:
        """Apply the server's MAX_FRAME_SIZE."""
        self._frame_max = size

    def _take_turn(self, unsent_data: _UnsentData, parts: list[bytes]) -> bool:
        """Add frames of one stream to ``parts``. Returns whether unsent data is left."""
        call, content = unsent_data.call, unsent_data.content
        for _ in range(_FRAMES_A_TURN):
            size = min(len(content), self._window, call.send_window, self._frame_max)
            if size <= 0:
                return True
            is_last = size == len(content)
            self._window -= size
            call.send_window -= size
            flags = frames.END_STREAM if is_last and unsent_data.ends else 0
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
