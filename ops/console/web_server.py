"""The HTTP server of the console.

The headers forbid pages to load anything from other origins. There are no cookies and no sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import hdrs, web

from core.domain.events import Recorded
from core.errors import (
    AccessDenied,
    ApiUnavailable,
    BadInput,
    CallRejected,
    ExecutionNotFound,
    NotFound,
    OrbweaverError,
    PrunedAway,
    RequestError,
    StoreError,
    Unauthenticated,
)
from ops.console.access import ConsoleAccess, OpenAccess
from ops.console.console_data import ConsoleSource
from ops.console.event_stream import Gap
from ops.console.events import EventConditions, parse_event_position
from ops.console.refused_actions import RefusedActions
from ops.console.request_parameters import EVENT_PARAMETERS, ConsoleQuery
from ops.console.routes import CONSOLE_ROUTES, ConsoleRoute
from ops.console.static_files import STATIC_FOLDER, etag_of, static_files
from ops.console.workflow_actions import BODY_BYTES_MAX, WorkflowActions

API_PATH: Final = "/api/v1"
CONNECTIONS_MAX: Final = 256
ANSWER_S_MAX: Final = 60.0
"""The time limit of an answer. The first answer reads the whole log."""

HEARTBEAT_S: Final = 15.0
"""After this time without events, a stream sends a comment."""

WRITE_S_MAX: Final = 30.0

PAST_STATE_CACHED_S: Final = 86_400
"""How long a client may cache a past state."""

COMPRESSED_FROM_BYTES: Final = 4_096
ACCESS_RECHECK_S: Final = 60.0
"""After this time, a stream checks its client's access again."""

LOOPBACK_HOSTS: Final = frozenset(("127.0.0.1", "localhost", "::1"))
"""The host names that a console on loopback accepts, against DNS rebinding."""

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_STATUSES: Final[tuple[tuple[type[OrbweaverError], int], ...]] = (
    (PrunedAway, 410),
    (BadInput, 400),
    (NotFound, 404),
    (CallRejected, 409),
    (ExecutionNotFound, 404),
    (Unauthenticated, 401),
    (AccessDenied, 403),
    (RequestError, 503),
    (StoreError, 503),
    (ApiUnavailable, 503),
)
"""The first match counts; the default is 500."""

_log: Final = logging.getLogger(__name__)
RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """The web application.

    ``actions``: None for a read-only console. ``hosts``: accepted host names; None accepts all.
    """

    def __init__(
        self,
        source: ConsoleSource,
        access: ConsoleAccess | None = None,
        actions: WorkflowActions | None = None,
        *,
        static: Path = STATIC_FOLDER,
        hosts: frozenset[str] | None = None,
        recheck_s: float = ACCESS_RECHECK_S,
    ) -> None:
        self._source = source
        self._access = access or OpenAccess()
        self._actions = actions
        self._files = dict(static_files(static))
        self._hosts = hosts
        self._recheck_s = recheck_s
        self._refused = RefusedActions()

    def app(self) -> web.Application:
        """The application with every route."""
        app = web.Application(middlewares=[self._protect], client_max_size=BODY_BYTES_MAX)
        for route in CONSOLE_ROUTES:
            app.router.add_get(API_PATH + route.path, self._handler_of(route))
        app.router.add_get(f"{API_PATH}/events/stream", self._stream)
        app.router.add_get(f"{API_PATH}/access", self._rights)
        if self._actions is not None:
            app.router.add_routes(self._actions.routes(API_PATH))
        app.router.add_get("/{path:.*}", self._file)
        return app

    async def close(self) -> None:
        """End the streams of events."""
        await self._source.feed.close()

    @web.middleware
    async def _protect(self, request: web.Request, handler: RequestHandler) -> web.StreamResponse:
        user = ""
        try:
            if self._hosts is not None and request.url.host not in self._hosts:
                raise AccessDenied(
                    f"this console does not accept the host {str(request.url.host)[:64]!r}",
                    subject="Host",
                    remedy="open the address that `orbctl console` has printed",
                )
            if request.path.startswith(f"{API_PATH}/"):
                user = await self._access.check(request.headers)
            response = await handler(request)
        except web.HTTPException as error:
            response = _error(error.status, error.reason.replace(" ", ""), error.reason, "")
        except OrbweaverError as error:
            if request.method == hdrs.METH_POST:
                self._refused.note(request, user, error)
            response = _failure(error)
        except TimeoutError:
            message = f"the request was not answered within {ANSWER_S_MAX:g} s"
            response = _error(503, "DeadlineExceeded", message, "try again; check etcd")
        except Exception:  # noqa: BLE001  # logged, and answered with status 500
            _log.exception("%s %s failed", request.method, request.path)
            remedy = "see the log of this process"
            response = _error(500, "Internal", "the request failed", remedy)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
        return response

    def _handler_of(self, route: ConsoleRoute) -> RequestHandler:
        async def handler(request: web.Request) -> web.StreamResponse:
            query = ConsoleQuery(request, route.parameters)
            async with asyncio.timeout(ANSWER_S_MAX):
                instant = await self._source.instant(query.text("at"))
                document = await route.answer(self._source, instant, query)
            body = msgspec.json.encode(document)
            etag = etag_of(body)
            headers = {
                hdrs.ETAG: etag,
                hdrs.CACHE_CONTROL: "no-cache",
                hdrs.VARY: hdrs.AUTHORIZATION,
            }
            # With access control, caching is off: a user who loses access would keep the cache.
            if query.text("at").isdecimal() and isinstance(self._access, OpenAccess):
                immutable = f"private, max-age={PAST_STATE_CACHED_S}, immutable"
                headers[hdrs.CACHE_CONTROL] = immutable
            if request.headers.get(hdrs.IF_NONE_MATCH) == etag:
                return web.Response(status=304, headers=headers)
            response = web.Response(body=body, content_type="application/json", headers=headers)
            if len(body) >= COMPRESSED_FROM_BYTES:
                response.enable_compression()
            return response

        return handler

    async def _rights(self, request: web.Request) -> web.StreamResponse:
        """``AccessAnswer`` of console-api.yaml."""
        user, may_act = await self._access.check(request.headers), False
        if self._actions is not None:
            with suppress(Unauthenticated, AccessDenied):
                await self._actions.access.check(request.headers)
                may_act = True
        body = msgspec.json.encode({"user": user, "workflowActions": may_act})
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        conditions = ConsoleQuery(request, EVENT_PARAMETERS | {"after"}).conditions()
        last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        after = parse_event_position(last, "Last-Event-ID") if last else None
        response = web.StreamResponse(headers={**SECURITY_HEADERS, hdrs.CACHE_CONTROL: "no-store"})
        response.content_type = "text/event-stream"
        loop = asyncio.get_running_loop()
        async with self._source.feed.open(after) as reader:
            await response.prepare(request)
            # A client that disconnects or does not read causes these errors.
            with suppress(ConnectionError, TimeoutError):
                events = reader.take()
                checked_at = loop.time()
                while True:
                    async with asyncio.timeout(WRITE_S_MAX):
                        await response.write(_messages(events, conditions))
                    if not reader.is_open:
                        break
                    events = await reader.next_events(min(HEARTBEAT_S, self._recheck_s))
                    if loop.time() - checked_at >= self._recheck_s:
                        if not await self._is_admitted(request):
                            break
                        checked_at = loop.time()
        return response

    async def _is_admitted(self, request: web.Request) -> bool:
        """Whether the client still has access; False if access cannot be checked."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._access.check(request.headers)
        except (OrbweaverError, TimeoutError):
            return False
        return True

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"] or "index.html"
        if path.startswith("api/"):
            message = f"there is no path {request.path[:128]!r}"
            return _error(404, "NotFound", message, "see docs/reference/console-api.md")
        file = self._files.get(path)
        if file is None:
            return _error(404, "NotFound", f"there is no file {path[:128]!r}", "open index.html")
        headers = {hdrs.ETAG: file.etag, hdrs.CACHE_CONTROL: "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == file.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers=headers | {hdrs.CONTENT_TYPE: file.type})


def _messages(events: Sequence[Recorded | Gap], conditions: EventConditions) -> bytes:
    """Encode events; without events, encode a comment, so that proxies stay connected."""
    messages = []
    for recorded in events:
        if isinstance(recorded, Gap):
            messages.append(b"id: %d\nevent: gap\ndata: {}\n\n" % recorded.position)
            continue
        document = conditions.document(recorded)
        if document is not None:
            head = f"id: {recorded.position}.{recorded.index_in_segment}\nevent: log\ndata: "
            messages.append(head.encode() + msgspec.json.encode(document) + b"\n\n")
    return b"".join(messages) or b":\n\n"


def _failure(error: OrbweaverError) -> web.Response:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        _log.warning("the console cannot answer: %s", error)
    response = _error(status, type(error).__name__, error.message, error.remedy, error.subject)
    if isinstance(error, Unauthenticated):
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="orbweaver"'
    return response


def _error(status: int, code: str, message: str, remedy: str, subject: str = "") -> web.Response:
    body = {"error": {"code": code, "message": message, "remedy": remedy, "subject": subject}}
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
