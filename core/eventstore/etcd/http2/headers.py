"""Header blocks (HPACK, RFC 7541) without a dynamic table.

We send SETTINGS_HEADER_TABLE_SIZE=0, so the server cannot use a dynamic table. The same bytes then
always decode to the same headers, so decoded blocks can be cached.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

import hpack

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import ErrorCode, Frame, ProtocolError

Metadata = tuple[tuple[str, str], ...]
"""(name, value) pairs in addition to gRPC's headers."""

HEADER_LIST_BYTES_MAX: Final = 65_536
"""The limit of a response's header list, both encoded and decoded."""

FRAMES_OF_A_BLOCK_MAX: Final = 64
"""Limits empty frames, which ``HEADER_LIST_BYTES_MAX`` cannot limit (RFC 9113, 6.10)."""

CACHED_BLOCKS_MAX: Final = 128

_NO_TABLE: Final = b"\x20"  # the size of the dynamic table is 0

# Entries of the static table with name and value.
_POST: Final = b"\x83"
_HTTP: Final = b"\x86"
_HTTPS: Final = b"\x87"

# Entries of the static table with only a name; the value follows.
_PATH: Final = b"\x04"
_AUTHORITY: Final = b"\x01"
_CONTENT_TYPE: Final = b"\x0f\x10"

# Name and value follow; ``_NEVER_INDEXED`` forbids proxies to index the header.
_LITERAL: Final = b"\x00"
_NEVER_INDEXED: Final = b"\x10"

_SECRET_NAMES: Final = frozenset({"token"})
"""No proxy may index these headers."""


class HeaderBlock(NamedTuple):
    """A complete, encoded header block."""

    stream_id: int
    ends_stream: bool
    content: bytes


class BlockAssembler:
    """Joins a HEADERS frame and its CONTINUATION frames into a header block."""

    def __init__(self) -> None:
        self._first: Frame | None = None
        self._content = b""
        self._frames = 0

    @property
    def is_open(self) -> bool:
        """Whether the next frame must be a CONTINUATION."""
        return self._first is not None

    def add(self, received: Frame) -> HeaderBlock | None:
        """Add a frame. Returns the block when it is complete, else None. Raises ProtocolError."""
        first = self._first
        if received.kind == frames.HEADERS:
            first, content = received, frames.without_padding(received)
            self._frames = 0
        elif first is None or first.stream_id != received.stream_id:
            text = f"CONTINUATION without an open header block on stream {received.stream_id}"
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, text)
        else:
            content = self._content + received.payload
        if len(content) > HEADER_LIST_BYTES_MAX:
            text = f"header block exceeds {HEADER_LIST_BYTES_MAX} bytes"
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
        self._frames += 1
        if self._frames > FRAMES_OF_A_BLOCK_MAX:
            text = f"header block exceeds {FRAMES_OF_A_BLOCK_MAX} frames"
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
        if not received.flags & frames.END_HEADERS:
            self._first, self._content = first, content
            return None
        self._first, self._content = None, b""
        return HeaderBlock(first.stream_id, bool(first.flags & frames.END_STREAM), content)


class ResponseHeaders(NamedTuple):
    """The part of a response's headers that a call reads.

    A missing text is ""; a missing or malformed number is None.
    """

    status: int | None
    content_type: str
    grpc_status: int | None
    grpc_message: str


@lru_cache(maxsize=CACHED_BLOCKS_MAX)
def request_headers(
    path: str, authority: str, metadata: Metadata, timeout_ms: int, *, secure: bool
) -> bytes:
    """Encode a request's headers. A ``timeout_ms`` of 0 means no deadline."""
    pairs = [("te", "trailers"), *metadata]
    if timeout_ms:
        pairs.append(("grpc-timeout", f"{timeout_ms}m"))
    return b"".join(
        (
            _NO_TABLE + _POST + (_HTTPS if secure else _HTTP),
            _PATH + _text(path),
            _AUTHORITY + _text(authority),
            _CONTENT_TYPE + _text("application/grpc"),
            *(_literal(name, value) for name, value in pairs),
        )
    )


@lru_cache(maxsize=CACHED_BLOCKS_MAX)
def response_headers(block: bytes) -> ResponseHeaders:
    """Decode a response's headers. Raises ProtocolError."""
    decoder = hpack.Decoder(max_header_list_size=HEADER_LIST_BYTES_MAX)
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        pairs = decoder.decode(block, raw=True)
    except hpack.HPACKError as error:
        raise ProtocolError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
    headers = {bytes(name): bytes(value).decode("ascii", "replace") for name, value in pairs}
    return ResponseHeaders(
        _status_number(headers.get(b":status")),
        headers.get(b"content-type", ""),
        _status_number(headers.get(b"grpc-status")),
        unquote(headers.get(b"grpc-message", "")),
    )


def _literal(name: str, value: str) -> bytes:
    kind = _NEVER_INDEXED if name in _SECRET_NAMES else _LITERAL
    return kind + _text(name) + _text(value)


def _text(text: str) -> bytes:
    """Encode a string: RFC 7541, 5.1 and 5.2, without Huffman coding."""
    content = text.encode("ascii")
    size = len(content)
    if size < 0x7F:
        return bytes((size,)) + content
    groups = bytearray((0x7F,))
    size -= 0x7F
    while size > 0x7F:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    groups.append(size)
    return bytes(groups) + content


def _status_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= 3 else None
