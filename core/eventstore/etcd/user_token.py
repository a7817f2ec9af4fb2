"""The token of the etcd user, which every call sends as metadata.

A new token is requested when etcd rejects the present token. Without a user, or while etcd requires
no authentication, calls have no token. Tokens are never logged.
"""

from __future__ import annotations

import asyncio

from core.eventstore.etcd import messages
from core.eventstore.etcd.channel import EndpointChannel
from core.eventstore.etcd.failures import CallFailed, CallFailure, CallState, as_call_failed
from core.eventstore.etcd.http2 import Metadata, RpcError
from core.eventstore.etcd.settings import EtcdSettings

_AUTH_DISABLED = "etcdserver: authentication is not enabled"

# With this header, a member without a leader fails calls immediately.
_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)


class UserToken:
    """Keeps the token as ``metadata`` of calls, None if a token must be requested first."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._user = settings.user
        self._password = settings.password
        self._timeout_s = settings.read_attempt_s
        self._lock = asyncio.Lock()
        self.metadata: Metadata | None = None if settings.user else _REQUIRE_LEADER

    @property
    def renewable(self) -> bool:
        """Whether a rejected token can be replaced: there is a user."""
        return bool(self._user)

    async def renew(self, channel: EndpointChannel, stale: Metadata | None) -> Metadata:
        """Replace the metadata ``stale``. Calls that failed concurrently share one new token.

        Raises CallFailed, never with the state UNKNOWN: a request for a token writes no data.
        """
        async with self._lock:
            if self.metadata is None or self.metadata is stale:
                self.metadata = await self._authenticate(channel)
            return self.metadata

    def forget(self) -> None:
        """The next call requests a new token."""
        if self.renewable:
            self.metadata = None

    async def _authenticate(self, channel: EndpointChannel) -> Metadata:
        request = messages.AuthenticateRequest(name=self._user, password=self._password)
        try:
            answer = await channel.call(
                "authenticate", request, timeout_s=self._timeout_s, metadata=_REQUIRE_LEADER
            )
        except RpcError as error:
            failure = as_call_failed(error).failure
            if failure.text.startswith(_AUTH_DISABLED):
                return _REQUIRE_LEADER
            if failure.state is CallState.UNKNOWN:
                failure = CallFailure(CallState.NOTHING_WRITTEN, failure.text, failure.timed_out)
            raise CallFailed(failure) from error
        return (*_REQUIRE_LEADER, ("token", answer.token))
