"""Renew leases on one stream for each endpoint. The stream stays open between renewals.

etcd renews leases only on a stream, and opening a stream takes several times as long as a renewal.
A failure, a timeout or a cancelled caller closes the stream: a late answer would otherwise count as
the answer to the next request.
"""

from __future__ import annotations

import asyncio

from core.eventstore.etcd.http2 import Channel, Metadata, RpcError, StatusCode, StreamingCall
from core.eventstore.etcd.methods import KEEP_ALIVE_PATH


class LeaseRenewals:
    """The stream of one channel. One request is in flight at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._call: StreamingCall | None = None
        self._metadata: Metadata = ()
        self._turn = asyncio.Lock()

    async def renew(self, request: bytes, *, timeout_s: float, metadata: Metadata) -> bytes:
        """Returns the answer. Raises RpcError."""
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                return await self._exchange(request, metadata)
        except TimeoutError:
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    async def _exchange(self, request: bytes, metadata: Metadata) -> bytes:
        call = await self._opened(metadata)
        answer = None
        try:
            call.send(request)
            answer = await call.receive()
        finally:
            if answer is None:
                self._close()
        if answer is None:
            raise RpcError(StatusCode.UNAVAILABLE, "etcd ended the stream of renewals")
        return answer

    async def _opened(self, metadata: Metadata) -> StreamingCall:
        if self._call is None or self._call.done or self._metadata != metadata:
            self._close()
            self._call = await self._channel.stream(KEEP_ALIVE_PATH, metadata=metadata)
            self._metadata = metadata
        return self._call

    def _close(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
