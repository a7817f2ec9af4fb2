"""A channel to each endpoint, and the change to the next endpoint after a failure.

A request is sent only over an open connection: if no endpoint can be connected, nothing was sent.
This module never repeats a call.
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
from core.eventstore.etcd.lease_renewals import LeaseRenewals
from core.eventstore.etcd.methods import UNARY_METHODS, WATCH_PATH, Method
from core.eventstore.etcd.settings import EtcdSettings
from core.protobuf import DecodeError

_decode_renewal = messages.decoder("LeaseKeepAliveResponse")


class EndpointChannel:
    """The channel to one endpoint."""

    def __init__(self, endpoint: str, channel: Channel) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._renewals = LeaseRenewals(channel)

    @property
    def is_ready(self) -> bool:
        """Whether the connection is up."""
        return self._channel.is_ready

    @property
    def failure(self) -> str:
        """Why the last attempt to connect failed."""
        return self._channel.failure

    async def connect(self) -> bool:
        """Connect unless the connection is up. Returns whether it is up."""
        return await self._channel.connect()

    async def call(
        self, method: Method, request: messages.Request, *, timeout_s: float, metadata: Metadata
    ) -> Any:
        """Returns the decoded answer. Raises RpcError."""
        content = request if isinstance(request, bytes) else request.SerializeToString()
        if method == "keep":  # renewals of leases share one stream
            answer = await self._renewals.renew(content, timeout_s=timeout_s, metadata=metadata)
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
        """Raises RpcError."""
        return await self._channel.stream(WATCH_PATH, metadata=metadata)

    def close(self) -> None:
        """Calls in flight fail."""
        self._channel.close()


class Endpoints:
    """The channels of one store. The first channel is chosen at random, to spread the clients."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise ValueError("a store on etcd needs at least one endpoint")
        self._settings = settings
        self._certificates = Certificates.read(settings)
        self._channels = _channels(settings)
        self._current = secrets.randbelow(len(self._channels))
        self._connect_task: asyncio.Task[EndpointChannel | None] | None = None

    @property
    def current(self) -> EndpointChannel:
        """The channel for new calls."""
        return self._channels[self._current]

    async def ready(self) -> EndpointChannel:
        """A connected channel. Raises CallFailed if there is none."""
        channel = self._channels[self._current]
        if channel.is_ready:
            return channel
        if self._connect_task is None or self._connect_task.done():
            self._connect_task = asyncio.create_task(self._connect())
        task = self._connect_task
        # Calls share the attempt, so a cancelled call must not cancel it.
        await asyncio.wait({task})
        connected = None if task.cancelled() else task.result()
        if connected is None:
            endpoints = ", ".join(f"{other.endpoint} ({other.failure})" for other in self._channels)
            raise CallFailed(
                CallFailure(CallState.NOTHING_WRITTEN, f"no connection to {endpoints}")
            )
        return connected

    def leave(self, channel: EndpointChannel) -> None:
        """Use the next channel, if ``channel`` is the current one."""
        if self._channels[self._current] is channel:
            self._current = (self._current + 1) % len(self._channels)

    async def close(self) -> None:
        """Calls in flight fail."""
        if self._connect_task is not None:
            self._connect_task.cancel()
        _close(self._channels)

    async def _connect(self) -> EndpointChannel | None:
        await self._renew_certificates()
        first = self._current
        for step in range(len(self._channels)):
            candidate = (first + step) % len(self._channels)
            if await self._channels[candidate].connect():
                self._current = candidate
                return self._channels[candidate]
        return None

    async def _renew_certificates(self) -> None:
        """Replace all channels if the certificate files have changed."""
        if not self._settings.secure:
            return
        try:
            certificates = await asyncio.to_thread(Certificates.read, self._settings)
            if certificates == self._certificates:
                return
            channels = await asyncio.to_thread(_channels, self._settings)
        except (OSError, BadInput):
            return  # a rotation may be in progress
        _close(self._channels)
        self._certificates, self._channels = certificates, channels


def _channels(settings: EtcdSettings) -> tuple[EndpointChannel, ...]:
    """Raises BadInput, OSError."""
    context = ssl_context(settings)
    targets = [
        endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
        for endpoint in settings.endpoints
    ]
    return tuple(EndpointChannel(target, Channel(target, context)) for target in targets)


def _close(channels: tuple[EndpointChannel, ...]) -> None:
    for channel in channels:
        channel.close()
