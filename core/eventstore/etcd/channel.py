"""A channel to each endpoint, and rotation away from endpoints that fail.

Calls go to the current endpoint until one of them fails in a way that another endpoint may not. A
request is sent only over a connection that is already up, so that "never sent" is known and not
guessed. It must never repeat a call.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from core.errors import BadInput
from core.eventstore.etcd import messages
from core.eventstore.etcd.certificates import Certificates, ssl_context
from core.eventstore.etcd.failures import CallFailed, CallFailure, CallState
from core.eventstore.etcd.http2 import Channel, Metadata, RpcError, StatusCode, StreamingCall
from core.eventstore.etcd.keep_alive import KeepAlives
from core.eventstore.etcd.methods import UNARY_METHODS, WATCH_PATH, Method
from core.eventstore.etcd.settings import EtcdSettings
from core.protobuf import DecodeError

_decode_renewal = messages.decoder("LeaseKeepAliveResponse")


class EndpointChannel:
    """The channel to one endpoint and its calls."""

    def __init__(self, endpoint: str, channel: Channel) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._keep_alives = KeepAlives(channel)

    @property
    def is_ready(self) -> bool:
        """Whether the connection is up."""
        return self._channel.is_ready

    @property
    def failure(self) -> str:
        """Why the last attempt to connect failed."""
        return self._channel.failure

    async def connect(self) -> bool:
        """Wait until the connection is up; False when it failed or took too long."""
        return await self._channel.connect()

    async def call(
        self, method: Method, request: messages.Request, *, timeout_s: float, metadata: Metadata
    ) -> Any:
        """Send one request and return the message of its answer. Raises RpcError."""
        content = request if isinstance(request, bytes) else request.SerializeToString()
        if method == "keep":
            answer = await self._keep_alives.renew(content, timeout_s=timeout_s, metadata=metadata)
            decode = _decode_renewal
        else:
            path, decode = UNARY_METHODS[method]
            answer = await self._channel.unary(
                path, content, timeout_s=timeout_s, metadata=metadata
            )
        try:
            return decode(answer)
        except DecodeError as error:
            raise RpcError(StatusCode.INTERNAL, f"the answer is not readable: {error}") from error

    async def open_watch(self, metadata: Metadata) -> StreamingCall:
        """A new watch stream. Raises RpcError."""
        return await self._channel.stream(WATCH_PATH, metadata=metadata)

    def close(self) -> None:
        """Close the connection; calls in flight fail."""
        self._channel.close()


class Endpoints:
    """The links of one store. The first one is random, to spread clients."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise ValueError("a store on etcd needs at least one endpoint")
        self._settings = settings
        self._certificates = Certificates.read(settings)
        self._links = _links(settings)
        self._current = secrets.randbelow(len(self._links))
        self._connecting: asyncio.Task[EndpointChannel | None] | None = None

    @property
    def current(self) -> EndpointChannel:
        """The link that calls use now."""
        return self._links[self._current]

    async def ready(self) -> EndpointChannel:
        """A link whose connection is up. Raises CallFailed when no endpoint has one."""
        link = self._links[self._current]
        if link.is_ready:
            return link
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        connecting = self._connecting
        # Shared by all waiting calls: one that is cancelled does not end it for the others.
        await asyncio.wait({connecting})
        connected = None if connecting.cancelled() else connecting.result()
        if connected is None:
            tried = ", ".join(f"{other.endpoint} ({other.failure})" for other in self._links)
            raise CallFailed(CallFailure(CallState.NOTHING_WRITTEN, f"no connection to {tried}"))
        return connected

    def failed(self, link: EndpointChannel) -> None:
        """Use another endpoint than ``link`` from now on, unless another call has changed it."""
        if self._links[self._current] is link:
            self._current = (self._current + 1) % len(self._links)

    async def close(self) -> None:
        """Close every channel; calls in flight fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        _close(self._links)

    async def _connect(self) -> EndpointChannel | None:
        await self._renew_certificates()
        first = self._current
        for step in range(len(self._links)):
            candidate = (first + step) % len(self._links)
            if await self._links[candidate].connect():
                self._current = candidate
                return self._links[candidate]
        return None

    async def _renew_certificates(self) -> None:
        """Use rotated certificates for new connections; an open one keeps its own."""
        if not self._settings.secure:
            return
        try:
            certificates = await asyncio.to_thread(Certificates.read, self._settings)
            if certificates == self._certificates:
                return
            links = await asyncio.to_thread(_links, self._settings)
        except (OSError, BadInput):
            # The files may be in the middle of a rotation; the current ones may still be valid.
            return
        _close(self._links)
        self._certificates, self._links = certificates, links


def _links(settings: EtcdSettings) -> tuple[EndpointChannel, ...]:
    """A channel to each endpoint. Raises BadInput, OSError."""
    context = ssl_context(settings)
    targets = [
        each.removeprefix("https://").removeprefix("http://").rstrip("/")
        for each in settings.endpoints
    ]
    return tuple(EndpointChannel(target, Channel(target, context)) for target in targets)


def _close(links: tuple[EndpointChannel, ...]) -> None:
    for link in links:
        link.close()
