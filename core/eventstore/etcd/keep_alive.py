"""Renewals of leases over one stream of each endpoint, which stays open between them.

A keep-alive is a stream in etcd's API. To open one for each renewal costs several times the renewal
itself, and a controller renews twice a second for as long as it lives. etcd answers a stream's
requests one after the other, so one request is under way at a time. A stream that fails, is
answered late or is left by a cancelled caller is closed: its answers belong to no later request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from core.eventstore.etcd import messages

Metadata = tuple[tuple[str, str], ...]


class KeepAlives:
    """The stream of one endpoint. ``open_stream``: the method of etcd's lease stub."""

    def __init__(self, open_stream: Callable[..., Any]) -> None:
        self._open_stream = open_stream
        self._call: Any = None
        self._metadata: Metadata = ()
        self._turn = asyncio.Lock()

    async def renew(
        self,
        request: messages.ProtobufMessage,
        *,
        timeout: float,  # noqa: ASYNC109  # the signature of gRPC's own unary calls
        metadata: Metadata,
    ) -> Any:
        """Send one request and return its answer. Raises grpc.aio.AioRpcError."""
        try:
            async with asyncio.timeout(timeout), self._turn:
                return await self._exchange(request, metadata)
        except TimeoutError:
            raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    async def _exchange(self, request: messages.ProtobufMessage, metadata: Metadata) -> Any:
        call = self._opened(metadata)
        answer = None
        try:
            await call.write(request)
            answer = await call.read()
            if answer is grpc.aio.EOF:
                answer = None
                raise _failed(await call.code(), await call.details())
            return answer
        finally:
            if answer is None:
                self._close()

    def _opened(self, metadata: Metadata) -> Any:
        if self._call is None or self._call.done() or self._metadata != metadata:
            self._close()
            self._call, self._metadata = self._open_stream(metadata=metadata), metadata
        return self._call

    def _close(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _failed(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
