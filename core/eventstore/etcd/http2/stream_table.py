"""The open streams of a connection; their ids are odd and ascending (RFC 9113, 5.1.1)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.stream import RpcCall


class StreamTable:
    """The calls of a connection, by stream id. ``get`` finds a call, or returns None."""

    def __init__(self) -> None:
        self._calls: dict[int, RpcCall] = {}
        self._next_id = 1
        self._size_max = frames.STREAM_ID_MAX
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.get = self._calls.get

    @property
    def calls(self) -> Collection[RpcCall]:
        """Calls with an open stream."""
        return self._calls.values()

    @property
    def is_full(self) -> bool:
        """Whether the server's limit is reached."""
        return len(self._calls) >= self._size_max

    @property
    def is_used_up(self) -> bool:
        """Whether no stream id is left."""
        return self._next_id > frames.STREAM_ID_MAX

    def add(self, call: RpcCall) -> None:
        """Open a stream."""
        call.stream_id = self._next_id
        self._next_id += 2
        self._calls[call.stream_id] = call

    def remove(self, call: RpcCall) -> bool:
        """Returns whether the stream was open."""
        if self._calls.get(call.stream_id) is not call:
            return False
        del self._calls[call.stream_id]
        if self._waiters:
            self._wake(1)
        return True

    def clear(self) -> list[RpcCall]:
        """Returns the removed calls."""
        calls = list(self._calls.values())
        self._calls.clear()
        self._wake(len(self._waiters))
        return calls

    def set_size_max(self, size: int) -> None:
        """Apply the server's MAX_CONCURRENT_STREAMS."""
        self._size_max = size
        self._wake(len(self._waiters))

    async def wait_for_change(self) -> None:
        """Wait until a stream has ended or the limit has changed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # woken before the cancellation
                self._wake(1)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self, count: int) -> None:
        """Wake up to ``count`` waiters; a cancelled waiter does not count."""
        while count and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
