"""Requests to an API server; failures are raised as ApiErrors (``core.errors``).

Every request has a deadline, which starts after a run of the exec plugin; ``PLUGIN_S_MAX`` limits
this run. No request is retried.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from core.errors import (
    ApiConflict,
    ApiExpired,
    ApiNotFound,
    ApiNotServed,
    ApiRejected,
    ApiUnavailable,
    BadInput,
    OrbweaverError,
)
from core.kubernetes.http_connection import Connection

Object: TypeAlias = dict[str, Any]
"""JSON data; unknown fields are kept."""

T = TypeVar("T")

REQUEST_DEADLINE_S: Final = 30.0

PAGE_OBJECTS: Final = 200
"""The page size is small, because Python does not return a page's memory to the system."""

WATCH_S: Final = 40
"""The server ends a watch after this time."""

SILENCE_S_MAX: Final = WATCH_S + 5.0
"""A watch without data for this time counts as broken, as in client-go.

The kernel usually detects a dead peer earlier (``DEAD_PEER_S``).
"""

WATCH_OPEN_S_MAX: Final = 10.0
"""The server must send the head of the response within this time."""

MESSAGE_CHARS_MAX: Final = 1_000

NAME_CHARS_MAX: Final = 64

_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_NO_FIELD_VALIDATION: Final = {"fieldValidation": "Ignore"}
"""Requests ask for no field validation, because the server's warnings are not read."""

_FAILURES: Final[dict[int, type[OrbweaverError]]] = {
    404: ApiNotFound,
    409: ApiConflict,
    410: ApiExpired,
    429: ApiUnavailable,
}
"""Other statuses: ApiUnavailable for 5xx, else ApiRejected."""

_REMEDIES: Final = {
    401: "correct the credentials of this process",
    403: "grant this permission to the identity of this process",
}

_CONNECTION_REMEDY: Final = "check the API server and the connection to it"


class Listed(NamedTuple):
    """A collection and its ``resourceVersion``."""

    items: list[Object]
    version: str


class Page(NamedTuple):
    """A part of a collection, as JSON texts: decoded objects would need ten times the memory."""

    texts: list[msgspec.Raw]
    version: str

    def objects(self) -> Iterator[Object]:
        """Decode the objects one at a time."""
        return (_OBJECT.decode(text) for text in self.texts)


class WatchEvent(NamedTuple):
    """A change of a collection.

    ``kind``: ADDED, MODIFIED, DELETED or BOOKMARK; a bookmark has only a version.
    """

    kind: str
    object: Object


class _PageMetadata(msgspec.Struct):
    version: str = msgspec.field(name="resourceVersion")
    continue_token: str = msgspec.field(name="continue", default="")


class _PageBody(msgspec.Struct):
    metadata: _PageMetadata
    items: list[msgspec.Raw] | None = None


class _WatchLine(msgspec.Struct):
    type: str
    object: Object


_OBJECT: Final = msgspec.json.Decoder(Object)
_PAGE: Final = msgspec.json.Decoder(_PageBody)
_WATCH_LINE: Final = msgspec.json.Decoder(_WatchLine)


class Api:
    """The requests to one server. Paths begin with ``/api`` or ``/apis``.

    Every request raises ApiUnavailable, ApiNotFound, ApiConflict, ApiExpired or ApiRejected.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ahead_s: float | None = None  # server time minus monotonic time
        self._date = ""

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._connection.server

    @property
    def server_clock_s(self) -> float:
        """Before the first response, this machine's Unix time; then the server's, monotonic."""
        return time.time() if self._ahead_s is None else time.monotonic() + self._ahead_s

    async def get(self, path: str) -> Object:
        """One object."""
        return await self._request("GET", path)

    async def find(self, path: str) -> Object | None:
        """Get one object; None only if the server reports that the object does not exist.

        Raises ApiNotServed for a path that the server does not serve.
        """
        try:
            return await self.get(path)
        except ApiNotServed:
            raise
        except ApiNotFound:
            return None

    async def list_if_served(self, path: str) -> Sequence[Object]:
        """The objects of a collection; empty if it is not served."""
        try:
            return (await self.list(path)).items
        except ApiNotFound:
            return []

    async def list(self, path: str) -> Listed:
        """All objects of a collection, at one version."""
        items: list[Object] = []
        version = ""
        async for page in self.pages(path):
            items += page.objects()
            version = page.version
        return Listed(items, version)

    async def names(self, path: str) -> set[str]:
        """The names of a collection's objects; requests only metadata."""
        return {
            item["metadata"]["name"]
            async for page in self.pages(path, _METADATA)
            for item in page.objects()
        }

    async def pages(self, path: str, accept: str = _JSON) -> AsyncIterator[Page]:
        """Yield a collection page by page, at one version."""
        query = {"limit": str(PAGE_OBJECTS)}
        while True:
            page = _read(
                _PAGE, await self._body("GET", _with_query(path, query), accept=accept), path
            )
            yield Page(page.items or [], page.metadata.version)
            if not page.metadata.continue_token:
                return
            query["continue"] = page.metadata.continue_token

    async def create(self, path: str, body: Mapping[str, object], manager: str = "") -> Object:
        """Create an object in a collection. ``manager``: the field manager, "" for the default."""
        return await self._request("POST", _with_query(path, _managed_by(manager)), body)

    async def apply(self, path: str, body: Mapping[str, object], manager: str) -> Object:
        """Server-side apply: set the fields of ``body``, remove other fields that ``manager`` owns.

        Creates a missing object, unless ``body`` has a UID. Takes over fields from other managers.
        """
        query = _managed_by(manager) | {"force": "true"}
        return await self._request("PATCH", _with_query(path, query), body, _APPLY)

    async def merge(self, path: str, body: Mapping[str, object], manager: str = "") -> Object:
        """Merge ``body`` into the object.

        Raises ApiConflict if ``body`` has a ``resourceVersion`` that is not the object's.
        """
        return await self._request("PATCH", _with_query(path, _managed_by(manager)), body, _MERGE)

    async def delete(self, path: str, uid: str = "") -> Object:
        """Begin to delete an object; with ``uid`` only if the object has this UID."""
        body = {"preconditions": {"uid": uid}} if uid else {}
        return await self._request("DELETE", path, body)

    async def watch(
        self, path: str, version: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[WatchEvent]:
        """Yield the changes after a version, until the server ends the watch without an error.

        ``opened`` is called when the server has accepted the watch, before any change.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
        }
        timeout = aiohttp.ClientTimeout(sock_connect=REQUEST_DEADLINE_S, sock_read=SILENCE_S_MAX)
        try:
            response = await self._connection.send(
                "GET",
                _with_query(path, query),
                body=None,
                content=_JSON,
                limits=timeout,
                head_s_max=WATCH_OPEN_S_MAX,
            )
            async with response:
                if response.status >= 400:
                    _raise(response.status, await response.read(), path)
                opened()
                try:
                    async for line in response.content:
                        yield _decode_event(line, path)
                finally:
                    _abort(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unavailable(path, error) from None

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.close()

    async def _request(
        self, method: str, path: str, body: object = None, content: str = _JSON
    ) -> Object:
        return _read(_OBJECT, await self._body(method, path, body, content), path)

    async def _body(
        self,
        method: str,
        path: str,
        body: object = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> bytes:
        """The body of the response. Raises an ApiError for status 4xx, 5xx."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_DEADLINE_S)
        try:
            response = await self._connection.send(
                method, path, body, content, timeout, REQUEST_DEADLINE_S, accept
            )
            async with response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(path, error) from None
        self._set_clock(response.headers.get("Date", ""))
        if response.status >= 400:
            _raise(response.status, text, path)
        return text

    def _set_clock(self, date: str) -> None:
        """Set the clock from a response's ``Date``.

        ``Date`` is truncated to whole seconds, so the largest difference seen is the most exact.
        """
        if date == self._date:
            return
        self._date = date
        with contextlib.suppress(ValueError):
            ahead_s = parsedate_to_datetime(date).timestamp() - time.monotonic()
            self._ahead_s = ahead_s if self._ahead_s is None else max(ahead_s, self._ahead_s)


def segment(name: str) -> str:
    """A name as one segment of a path. Raises BadInput if no object can have this name."""
    if not name or name in (".", "..") or "/" in name or "%" in name:
        raise BadInput(
            f"{name[:NAME_CHARS_MAX]!r} is not the name of an object",
            subject="name",
            remedy="give only the name, without a kind or namespace",
        )
    return quote(name, safe="")


def _abort(response: aiohttp.ClientResponse) -> None:
    """Close a watch without waiting for the closing handshake of TLS."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"


def _managed_by(manager: str) -> dict[str, str]:
    return _NO_FIELD_VALIDATION | ({"fieldManager": manager} if manager else {})


def _decode_event(line: bytes, path: str) -> WatchEvent:
    """Decode a line of a watch. Raises the error in the line as an ApiError."""
    body = _WATCH_LINE.decode(line)
    if body.type == "ERROR":
        raise _failure(body.object.get("code", 500), body.object, path)
    return WatchEvent(body.type, body.object)


def _read(decoder: msgspec.json.Decoder[T], text: bytes, path: str) -> T:
    """Decode a response. Raises ApiUnavailable for undecodable text, such as a proxy's page."""
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        subject = path.partition("?")[0]
        message = f"the response for {subject} is not an object of the Kubernetes API: {error}"
        remedy = "check the URL of the API server, and proxies in front of it"
        raise ApiUnavailable(message, subject=subject, remedy=remedy) from None


def _raise(status: int, text: bytes, path: str) -> NoReturn:
    try:
        body = _OBJECT.decode(text)
    except msgspec.DecodeError:
        body = {"message": text.decode("utf-8", "replace")}
    raise _failure(status, body, path)


def _failure(status: int, body: Mapping[str, Any], path: str) -> OrbweaverError:
    default = ApiUnavailable if status >= 500 else ApiRejected
    error_class = _FAILURES.get(status, default)
    if error_class is ApiNotFound and not (body.get("details") or {}).get("name"):
        error_class = ApiNotServed
    subject = path.partition("?")[0]
    reason = str(body.get("message", ""))[:MESSAGE_CHARS_MAX]
    message = f"the API server returned {status} for {subject}: {reason}"
    return error_class(message, subject=subject, remedy=_REMEDIES.get(status, ""))


def _unavailable(path: str, error: Exception) -> ApiUnavailable:
    text = str(error) or type(error).__name__
    message = f"the API server does not answer: {text[:MESSAGE_CHARS_MAX]}"
    return ApiUnavailable(message, subject=path.partition("?")[0], remedy=_CONNECTION_REMEDY)


class ServedKind(NamedTuple):
    """A kind that the server serves. ``group_path``: such as ``/apis/apps/v1``."""

    group_path: str
    plural: str
    namespaced: bool

    @property
    def collection(self) -> str:
        """The path of the objects in all namespaces."""
        return f"{self.group_path}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """The path of one object."""
        namespace_path = f"/namespaces/{segment(namespace)}" if self.namespaced else ""
        return f"{self.group_path}{namespace_path}/{self.plural}/{segment(name)}"


async def served_kind(api: Api, api_version: str, kind: str) -> ServedKind | None:
    """Find a kind by discovery; None if it is not served. Raises ApiError."""
    group_path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    try:
        resources = await api.get(group_path)
    except ApiNotFound:
        return None
    for resource in resources.get("resources") or ():
        is_subresource = "/" in resource["name"]
        if resource["kind"] == kind and not is_subresource:
            return ServedKind(group_path, str(resource["name"]), bool(resource["namespaced"]))
    return None
