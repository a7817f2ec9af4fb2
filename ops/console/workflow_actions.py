"""Retries and signals workflow executions.

An action needs a JSON body, and a bearer token with the right to post to ``access.ACTIONS_PATH``.
This server permits no CORS request, so a page of another origin cannot send an action.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from core.errors import AccessDenied, BadInput
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from ops.console.access import ConsoleAccess
from workflows.engine.client.client import Client
from workflows.model.errors import WorkflowError

BODY_BYTES_MAX: Final = 65_536
"""A longer body is answered with status 413."""

TEXT_CHARS_MAX: Final = 1_024
"""Limit of a retry's reason and of a signal's name."""

NESTING_MAX: Final = 64
"""Levels in a signal's arguments. Some JSON parsers reject deeper texts."""

_SAME_ORIGIN: Final = frozenset(("same-origin", "none"))
_log: Final = logging.getLogger(__name__)
B = TypeVar("B", bound=msgspec.Struct)


class RetryBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a retry."""

    reason: str = ""


class SignalBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a signal."""

    name: str
    arguments: list[Any] = []


class WorkflowActions:
    """The handlers of retry and signal. ``access`` authorizes each request."""

    def __init__(self, store: KeyValueStore, keys: Keys, access: ConsoleAccess) -> None:
        self.access = access
        self._store = store
        self._keys = keys

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """The routes below ``prefix``."""
        execution = f"{prefix}/workflows/{{id:.+}}"
        return [
            web.post(f"{execution}/retry", self._retry),
            web.post(f"{execution}/signal", self._signal),
        ]

    async def _retry(self, request: web.Request) -> web.Response:
        body = await _body(request, RetryBody)
        _check_length(body.reason, "reason")
        return await self._act(
            request, "retry", lambda client, workflow: client.retry(workflow, body.reason)
        )

    async def _signal(self, request: web.Request) -> web.Response:
        body = await _body(request, SignalBody)
        _check_length(body.name, "name", least=1)
        if _nests_deeper_than(body.arguments, NESTING_MAX):
            raise BadInput(
                f"arguments nest lists and objects more than {NESTING_MAX} levels deep",
                subject="arguments",
                remedy="pass flatter arguments",
            )
        return await self._act(
            request,
            f"signal {body.name}",
            lambda client, workflow: client.signal(workflow, body.name, *body.arguments),
        )

    async def _act(
        self, request: web.Request, action: str, change: Callable[[Client, str], Awaitable[None]]
    ) -> web.Response:
        workflow_id = request.match_info["id"]
        user = await self.access.check(request.headers)
        try:
            identity = f"console/{user}"
            async with Client(self._store, self._keys, name="console", identity=identity) as client:
                await change(client, workflow_id)
        except WorkflowError as error:
            raise BadInput(str(error), subject=workflow_id) from error
        fields = {"user": user, "action": action, "workflow": workflow_id}
        _log.info("the console has changed an execution", extra={"fields": fields})
        return web.Response(status=204, headers={hdrs.CACHE_CONTROL: "no-store"})


async def _body(request: web.Request, kind: type[B]) -> B:
    """Raises BadInput, and AccessDenied for a page of another origin."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in _SAME_ORIGIN:
        raise AccessDenied(
            "the request comes from a page of another origin",
            subject="Origin",
            remedy="use the console's own page, or `orbctl workflow`",
        )
    if request.content_type != "application/json":
        raise BadInput(
            f"the body has the type {request.content_type[:64]!r}, not application/json",
            subject="Content-Type",
            remedy="send JSON, and the header Content-Type: application/json",
        )
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            f"the body cannot be read: {error}",
            subject="body",
            remedy="send valid JSON with the fields of this action",
        ) from None


def _check_length(text: str, subject: str, least: int = 0) -> None:
    if not least <= len(text) <= TEXT_CHARS_MAX:
        text = f"the {subject} must have {least} to {TEXT_CHARS_MAX:,} characters"
        raise BadInput(text, subject=subject)


def _nests_deeper_than(value: object, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nests_deeper_than(item, levels - 1) for item in inner)
