"""One gRPC channel per endpoint, and rotation away from endpoints that fail.

gRPC's own balancing does not leave a hung member, so the choice is ours: calls go to the current
endpoint until one of them fails in a way that another endpoint may not. A request is sent only over
a connection that is already up, so that "never sent" is known and not guessed. It must never repeat
a call.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import grpc
from grpc import ChannelConnectivity

from core.eventstore.etcd import messages
from core.eventstore.etcd.failures import CallFailed, CallFailure, CallState
from core.eventstore.etcd.keep_alive import KeepAlives
from core.eventstore.etcd.settings import (
    CONNECT_ATTEMPT_S,
    KEEPALIVE_S,
    KEEPALIVE_TIMEOUT_S,
    RECONNECT_MAX_S,
    RECONNECT_MIN_S,
    EtcdSettings,
)

Method = Literal[
    "txn",
    "range",
    "compact",
    "grant",
    "keep",
    "revoke",
    "authenticate",
    "status",
    "alarm",
    "defragment",
    "auth_enable",
    "role_add",
    "role_get",
    "role_grant",
    "role_revoke",
    "user_add",
    "user_grant",
]
Unary = Callable[..., Awaitable[Any]]

UNLIMITED = -1
WINDOW_BYTES = 1 << 20
"""What etcd may send of one answer before we have read it: 1 GB/s at a round trip of 1 ms."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A read of a large range or a catch-up watch exceeds gRPC's default of 4 MB; the size of what
    # we send is bounded by etcd itself, which answers with a reason.
    ("grpc.max_receive_message_length", UNLIMITED),
    ("grpc.max_send_message_length", UNLIMITED),
    ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    # Found by pausing a member: without it the pings' own timeout of one minute decides, whatever
    # the keepalive timeout says.
    ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.http2.max_pings_without_data", 0),
    # A window of fixed size: to find a better one gRPC would ping etcd again and again, and every
    # timer wakes all of its threads for a second.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.initial_reconnect_backoff_ms", int(RECONNECT_MIN_S * 1000)),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_ATTEMPT_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(RECONNECT_MAX_S * 1000)),
    # A write must never be repeated below us.
    ("grpc.enable_retries", 0),
    # The cluster network's traffic never goes through a web proxy named in the environment.
    ("grpc.enable_http_proxy", 0),
    # Two stores of one process do not share connections, nor the memory of failed ones.
    ("grpc.use_local_subchannel_pool", 1),
)


class Certificates(NamedTuple):
    """PEM texts, in the order that gRPC takes them."""

    ca: bytes | None
    key: bytes | None
    cert: bytes | None


class EndpointChannel:
    """The channel to one endpoint and its calls."""

    def __init__(self, endpoint: str, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self.channel = channel
        kv = messages.KVStub(channel)
        lease = messages.LeaseStub(channel)
        auth = messages.AuthStub(channel)
        maintenance = messages.MaintenanceStub(channel)
        self.methods: dict[Method, Unary] = {
            "txn": channel.unary_unary(
                messages.TXN_METHOD, response_deserializer=messages.decode_txn_response
            ),
            "range": kv.Range,
            "compact": kv.Compact,
            "grant": lease.LeaseGrant,
            "keep": KeepAlives(lease.LeaseKeepAlive).renew,
            "revoke": lease.LeaseRevoke,
            "authenticate": auth.Authenticate,
            "status": maintenance.Status,
            "alarm": maintenance.Alarm,
            "defragment": maintenance.Defragment,
            "auth_enable": auth.AuthEnable,
            "role_add": auth.RoleAdd,
            "role_get": auth.RoleGet,
            "role_grant": auth.RoleGrantPermission,
            "role_revoke": auth.RoleRevokePermission,
            "user_add": auth.UserAdd,
            "user_grant": auth.UserGrantRole,
        }
        self.watch: Callable[..., Any] = messages.WatchStub(channel).Watch

    @property
    def is_ready(self) -> bool:
        """Whether the connection is up; starts connecting if it is not."""
        return self.channel.get_state(try_to_connect=True) is ChannelConnectivity.READY

    async def connect(self) -> bool:
        """Wait until the connection is up; False when it failed or took too long."""
        try:
            async with asyncio.timeout(CONNECT_ATTEMPT_S):
                while (state := self.channel.get_state(try_to_connect=True)) not in (
                    ChannelConnectivity.READY,
                    ChannelConnectivity.TRANSIENT_FAILURE,
                    ChannelConnectivity.SHUTDOWN,
                ):
                    await self.channel.wait_for_state_change(state)
        except TimeoutError:
            return False
        return state is ChannelConnectivity.READY


class Endpoints:
    """The links of one store. The first one used is random: a fleet spreads by itself."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise ValueError("a store on etcd needs at least one endpoint")
        self._settings = settings
        self._certificates = _read_certificates(settings)
        self._links = _links(settings, self._certificates)
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
        found = None if connecting.cancelled() else connecting.result()
        if found is None:
            names = ", ".join(each.endpoint for each in self._links)
            raise CallFailed(
                CallFailure(CallState.NOTHING_WRITTEN, f"no connection to any of {names}")
            )
        return found

    def failed(self, link: EndpointChannel) -> None:
        """Move on from ``link``, unless somebody already did."""
        if self._links[self._current] is link:
            self._current = (self._current + 1) % len(self._links)

    async def close(self) -> None:
        """Close every channel; calls under way are cancelled."""
        if self._connecting is not None:
            self._connecting.cancel()
        await _close(self._links)

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
        """Take up certificates that were rotated; a connection that is up needs no new ones."""
        if not self._settings.secure:
            return
        try:
            found = await asyncio.to_thread(_read_certificates, self._settings)
        except OSError:
            # In the middle of a rotation; what we have may still be good.
            return
        if found != self._certificates:
            replaced = self._links
            self._certificates = found
            self._links = _links(self._settings, found)
            await _close(replaced)


def _links(settings: EtcdSettings, certificates: Certificates) -> tuple[EndpointChannel, ...]:
    credentials = grpc.ssl_channel_credentials(*certificates) if settings.secure else None
    return tuple(_link(each, credentials) for each in settings.endpoints)


def _link(endpoint: str, credentials: grpc.ChannelCredentials | None) -> EndpointChannel:
    target = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    options: Sequence[tuple[str, int]] = CHANNEL_OPTIONS
    if credentials is None:
        return EndpointChannel(target, grpc.aio.insecure_channel(target, options=options))
    return EndpointChannel(target, grpc.aio.secure_channel(target, credentials, options=options))


async def _close(links: Sequence[EndpointChannel]) -> None:
    for link in links:
        await link.channel.close()


def _read_certificates(settings: EtcdSettings) -> Certificates:
    def content(name: str) -> bytes | None:
        return Path(name).read_bytes() if name else None

    return Certificates(
        content(settings.ca_file), content(settings.key_file), content(settings.cert_file)
    )
