"""Reads the body of an HTTP request, with limits on time and size."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

BODY_S_MAX: Final = 10.0
"""Seconds from the head of a request to the end of its body."""

_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_WINDOW_BITS: Final = {"gzip": _GZIP_BITS, "x-gzip": _GZIP_BITS, "deflate": zlib.MAX_WBITS}
_PLAIN: Final = ("", "identity")


class BodyRefused(Exception):
    """The body cannot be read. ``status``: the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_decompressed_body(request: web.Request, bytes_max: int) -> bytes:
    """The body, decompressed. Raises BodyRefused: 400, 408, 413 or 415."""
    try:
        async with asyncio.timeout(BODY_S_MAX):
            data = await request.read()
    except TimeoutError:
        raise BodyRefused(408, f"the body did not arrive within {BODY_S_MAX:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(bytes_max) from None
    except (aiohttp.ClientPayloadError, web.RequestPayloadError, HttpProcessingError) as error:
        raise BodyRefused(400, f"the body cannot be read: {error}") from None
    return decompressed(data, request.headers.get("Content-Encoding", ""), bytes_max)


def decompressed(data: bytes, encoding: str, bytes_max: int) -> bytes:
    """Decompress to at most ``bytes_max`` bytes. Raises BodyRefused.

    Data without an encoding is returned unchanged, whatever its size.
    """
    name = encoding.strip().lower()
    if name in _PLAIN or not data:
        return data
    if name not in _WINDOW_BITS:
        supported = ", ".join(_WINDOW_BITS)
        raise BodyRefused(415, f"unsupported Content-Encoding {encoding[:100]!r}, use {supported}")
    reader = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        body = reader.decompress(data, bytes_max + 1)
    except zlib.error as error:
        raise BodyRefused(400, f"the body is not {name}: {error}") from None
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    if not reader.eof or reader.unused_data:
        raise BodyRefused(400, f"the body is not one complete {name} stream")
    return body


def _too_large(bytes_max: int) -> BodyRefused:
    return BodyRefused(413, f"the body is larger than {bytes_max} bytes")
