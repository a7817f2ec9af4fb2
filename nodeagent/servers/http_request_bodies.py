"""Parses request bodies of the HTTP API by Spiderpool's rules (docs/reference/http-api.md).

Member names are case-insensitive. The last of repeated members counts. Unknown members, and text
after the document, are ignored. Only the types of values are checked. Half a surrogate pair, which
has no UTF-8 form, becomes U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from core.manifests.networks.gojson import without_lone_surrogates
from core.process.bodies import read_decompressed_body

JSON_TYPE: Final = "application/json"
BODY_BYTES_MAX: Final = 1 << 20
MISSING_MEMBER_CODE: Final = 602
"""Spiderpool's code of a missing member."""

_WHITESPACE: Final = " \t\r\n"


class HttpRefusal(Exception):
    """An error with the response ``{"code":…,"message":…}``. ``code`` 0: use the status."""

    def __init__(self, status: int, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or status
        self.message = message


class AddArgs(msgspec.Struct, frozen=True, rename="camel"):
    """Spiderpool's IpamAddArgs. Fields without a default are required, but "" is allowed."""

    container_id: str = msgspec.field(name="containerID")
    if_name: str
    net_namespace: str
    pod_namespace: str
    pod_name: str
    pod_uid: str = msgspec.field(name="podUID")
    default_ipv4_pools: tuple[str, ...] = msgspec.field(name="defaultIPv4IPPool", default=())
    default_ipv6_pools: tuple[str, ...] = msgspec.field(name="defaultIPv6IPPool", default=())
    clean_gateway: bool = False
    match_master_subnet: bool = False


class DelArgs(msgspec.Struct, frozen=True, rename="camel"):
    """Spiderpool's IpamDelArgs."""

    container_id: str = msgspec.field(name="containerID")
    if_name: str
    pod_namespace: str
    pod_name: str
    pod_uid: str = msgspec.field(name="podUID")
    net_namespace: str = ""


class BatchDelArgs(msgspec.Struct, frozen=True, rename="camel"):
    """Spiderpool's IpamBatchDelArgs."""

    container_id: str = msgspec.field(name="containerID")
    pod_namespace: str
    pod_name: str
    pod_uid: str = msgspec.field(name="podUID")
    net_namespace: str = ""
    conflict: bool = msgspec.field(name="isReleaseConflictIPs", default=False)


class CoordinatorArgs(msgspec.Struct, frozen=True, rename="camel"):
    """Spiderpool's GetCoordinatorArgs."""

    pod_name: str
    pod_namespace: str


Body = TypeVar("Body", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[Body], name: str) -> Body:
    """The body as ``kind``. ``name``: the body's name in error texts.

    Raises HttpRefusal, BodyRefused.
    """
    data = await read_decompressed_body(request, BODY_BYTES_MAX)
    if data and request.content_type != JSON_TYPE:
        media_type = request.headers.get("Content-Type", "")[:100]
        raise HttpRefusal(
            415, f'unsupported media type "{media_type}", only [{JSON_TYPE}] are allowed'
        )
    if not data:
        raise _required(name)
    return parse_body(data, kind, name)


def parse_body(data: bytes, kind: type[Body], name: str) -> Body:
    """Parse a body as ``kind``. Raises HttpRefusal."""
    fields = msgspec.structs.fields(kind)
    members = _members(
        data, name, {field.encode_name.lower(): field.encode_name for field in fields}
    )
    types: dict[str, Any] = {field.encode_name: field.type for field in fields}
    values: dict[str, object] = {}
    for key, value in members.items():
        try:
            values[key] = msgspec.convert(value, types[key])
        except msgspec.ValidationError as error:
            raise _unparsable(name, f"{key}: {error}") from None
    for field in fields:
        if field.required and field.encode_name not in values:
            raise _required(field.encode_name)
    return msgspec.convert(values, kind)


def _members(data: bytes, name: str, known: dict[str, str]) -> dict[str, object]:
    """The known members that are not null."""
    try:
        text = data.decode().lstrip(_WHITESPACE)
        document, _ = _decoder.raw_decode(text)
        if document is None:
            raise _required(name)
        if not isinstance(document, _Pairs):
            raise _unparsable(name, f"cannot read {type(document).__name__} as an object")
        members = {
            known[key.lower()]: without_lone_surrogates(value)
            for key, value in document.pairs
            if key.lower() in known
        }
    except (ValueError, RecursionError) as error:
        raise _unparsable(name, str(error)) from None
    return {key: value for key, value in members.items() if value is not None}


class _Pairs:
    """The members of a JSON object, including repeated members."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not valid JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse_constant)


def _required(name: str) -> HttpRefusal:
    return HttpRefusal(422, f"{name} in body is required", MISSING_MEMBER_CODE)


def _unparsable(name: str, why: str) -> HttpRefusal:
    # The empty quotes are part of Spiderpool's text.
    return HttpRefusal(400, f'parsing {name} body from "" failed, because {why}')
