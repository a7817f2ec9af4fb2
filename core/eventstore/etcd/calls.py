"""One call to etcd: endpoint, token, deadline, errors, measurement.

Writes use ``once``: etcd applies the request at most once. Idempotent calls use ``repeat``.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from tenacity import AsyncRetrying, retry_if_exception, stop_before_delay, wait_random_exponential

from core.eventstore.etcd.channel import EndpointChannel, Endpoints
from core.eventstore.etcd.failures import (
    CallFailed,
    CallFailure,
    CallState,
    as_call_failed,
    read_error,
    write_error,
)
from core.eventstore.etcd.http2 import Metadata, RpcError, StreamingCall
from core.eventstore.etcd.messages import Request
from core.eventstore.etcd.methods import METHOD_NAMES, Method
from core.eventstore.etcd.settings import RETRY_WAIT_S_MAX, EtcdSettings
from core.eventstore.etcd.user_token import UserToken
from core.process.tracing import Span, child_span

_DATABASE = {"db.system.name": "etcd"}
_FIRST_WAIT_S = 0.02

_REPEATED_ATTEMPT_S_MIN = 0.05
"""The shortest timeout of a repeated attempt; it may end after the deadline."""

_RETRYABLE_STATES = frozenset({CallState.NOTHING_WRITTEN, CallState.UNKNOWN})
"""Failures that may be limited to one endpoint."""


class CallObserver(Protocol):
    """A receiver of every call's outcome."""

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """Must be quick and must not raise. ``outcome``: "ok" or the name of an error class."""
        ...


class Calls:
    """All calls of one store to etcd."""

    def __init__(self, settings: EtcdSettings, observer: CallObserver | None = None) -> None:
        self._settings = settings
        self._observer = observer
        self._endpoints = Endpoints(settings)
        self._token = UserToken(settings)
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def endpoint(self) -> str:
        """The current endpoint, ``host:port``."""
        return self._endpoints.current.endpoint

    async def once(self, method: Method, request: Request) -> Any:
        """Send a write, once. Raises StoreUnavailable, OutcomeUnknown, StoreRejected."""
        started = time.perf_counter()
        with child_span(METHOD_NAMES[method], "client", _DATABASE) as span:
            try:
                answer = await self._attempt(method, request, self._settings.write_deadline_s)
            except CallFailed as failed:
                error = write_error(failed.failure, self.endpoint)
                self.observe(method, started, error)
                raise error from failed
            finally:
                self._describe(span, method)
        self.observe(method, started)
        return answer

    async def repeat(self, method: Method, request: Request) -> Any:
        """Repeat the request after temporary failures, within ``read_deadline_s``.

        Raises StoreUnavailable, StoreRejected, StoreFull; CallFailed if the revision was compacted.
        """
        started = time.perf_counter()
        with child_span(METHOD_NAMES[method], "client", _DATABASE) as span:
            try:
                answer = await self._repeated(method, request)
            except CallFailed as failed:
                if failed.failure.state is CallState.COMPACTED:  # a valid answer, not an error
                    self.observe(method, started)
                    raise
                error = read_error(failed.failure, self.endpoint)
                self.observe(method, started, error)
                raise error from failed
            finally:
                self._describe(span, method)
        self.observe(method, started)
        return answer

    async def open_watch(self) -> tuple[EndpointChannel, StreamingCall]:
        """Open a watch stream on a channel, and return both. Raises CallFailed."""
        self._check_open()
        channel = await self._endpoints.ready()
        metadata = self._token.metadata or await self._token.renew(channel, stale=None)
        try:
            return channel, await channel.open_watch(metadata)
        except RpcError as error:
            raise as_call_failed(error) from error

    def watch_failed(self, channel: EndpointChannel, failure: CallFailure) -> None:
        """Let the next watch use a new token after STALE_TOKEN, else another endpoint."""
        if failure.state is CallState.STALE_TOKEN:
            self._token.forget()
        else:
            self._endpoints.leave(channel)

    def observe(self, method: str, started: float, error: Exception | None = None) -> None:
        """Tell the observer the outcome. ``started``: the start by ``time.perf_counter``."""
        if self._observer is not None:
            outcome = type(error).__name__ if error is not None else "ok"
            self._observer.on_call(method, time.perf_counter() - started, outcome)

    def _describe(self, span: Span | None, method: Method) -> None:
        if span is not None:
            host, _, port = self.endpoint.rpartition(":")
            span.set_attribute("db.operation.name", METHOD_NAMES[method])
            if port.isdecimal():
                span.set_attribute("server.address", host.strip("[]"))
                span.set_attribute("server.port", int(port))
            else:
                span.set_attribute("server.address", self.endpoint.removeprefix("unix:"))

    async def close(self) -> None:
        """Cancel calls in flight and refuse new ones."""
        self._closed = True
        await self._endpoints.close()

    async def _repeated(self, method: Method, request: Request) -> Any:
        attempt_s = self._settings.read_attempt_s
        ends_at = time.monotonic() + self._settings.read_deadline_s
        try:
            return await self._attempt(method, request, attempt_s)
        except CallFailed as failed:
            if not self._is_retryable(failed):
                raise
        retrying = AsyncRetrying(
            stop=stop_before_delay(ends_at - time.monotonic()),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=RETRY_WAIT_S_MAX),
            retry=retry_if_exception(self._is_retryable),
            reraise=True,
        )
        async for attempt in retrying:
            attempt_s = min(2 * attempt_s, max(ends_at - time.monotonic(), _REPEATED_ATTEMPT_S_MIN))
            with attempt:
                return await self._attempt(method, request, attempt_s)
        raise AssertionError("tenacity ends with a result or an error")

    def _is_retryable(self, error: BaseException) -> bool:
        return (
            isinstance(error, CallFailed)
            and error.failure.state in _RETRYABLE_STATES
            and not error.failure.is_full
            and not self._closed
        )

    async def _attempt(self, method: Method, request: Request, timeout_s: float) -> Any:
        self._check_open()
        channel = await self._endpoints.ready()
        metadata = self._token.metadata
        try:
            if metadata is None:
                metadata = await self._token.renew(channel, stale=None)
            try:
                return await self._send(channel, method, request, timeout_s, metadata)
            except CallFailed as failed:
                if failed.failure.state is not CallState.STALE_TOKEN:
                    raise
            # etcd checks the token first, so nothing was written. A client with a certificate gets
            # this error only during a change of roles.
            if self._token.renewable:
                metadata = await self._token.renew(channel, metadata)
            return await self._send(channel, method, request, timeout_s, metadata)
        except CallFailed as failed:
            if failed.failure.state in _RETRYABLE_STATES and not failed.failure.is_full:
                self._endpoints.leave(channel)
            raise

    async def _send(
        self,
        channel: EndpointChannel,
        method: Method,
        request: Request,
        timeout_s: float,
        metadata: Metadata,
    ) -> Any:
        try:
            return await channel.call(method, request, timeout_s=timeout_s, metadata=metadata)
        except RpcError as error:
            raise as_call_failed(error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise CallFailed(
                CallFailure(
                    CallState.NOTHING_WRITTEN,
                    "this process has closed its etcd client",
                    remedy="start the process again if it does not restart by itself",
                )
            )
