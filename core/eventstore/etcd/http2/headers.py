"""Header blocks (HPACK, RFC 7541) without a dynamic table: each block stands for itself.

We tell the server that our decoder's table has no room, so it never refers to an earlier block, and
the same bytes always mean the same headers: decoded once, they are remembered. Our own blocks use
the static table and literals that are never added to the server's table. Decoding is the ``hpack``
package's; the few headers that a gRPC answer is judged by are taken from it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

import hpack

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import ErrorCode, Frame, ProtocolError

Metadata = tuple[tuple[str, str], ...]

HEADER_LIST_BYTES_MAX: Final = 65_536
"""Of one answer, decoded: the text of an error is the only long one."""

BLOCKS_MAX: Final = 128
"""Header blocks of each direction that are remembered."""

_NO_TABLE: Final = b"\x20"  # the size of the dynamic table is 0
_POST: Final = b"\x83"  # entries of the static table, with their values
_HTTP: Final = b"\x86"
_HTTPS: Final = b"\x87"
_PATH: Final = b"\x04"  # names of the static table, literal values, not indexed
_AUTHORITY: Final = b"\x01"
_CONTENT_TYPE: Final = b"\x0f\x10"
_LITERAL: Final = b"\x00"
_NEVER_INDEXED: Final = b"\x10"

_SECRET_NAMES: Final = frozenset({"token"})


class HeaderBlock(NamedTuple):
    """A whole block of one stream."""

    stream_id: int
    ends_stream: bool
    content: bytes


class BlockAssembler:
    """Joins a HEADERS frame and the CONTINUATION frames that follow it."""

    def __init__(self) -> None:
        self._first: Frame | None = None
        self._content = b""

    @property
    def is_open(self) -> bool:
        """Whether a block has begun: then nothing but CONTINUATION may follow."""
        return self._first is not None

    def add(self, received: Frame) -> HeaderBlock | None:
        """Take a HEADERS or CONTINUATION frame; return a whole block. Raises ProtocolError."""
        first = self._first
        if received.kind == frames.HEADERS:
            first, content = received, frames.without_padding(received)
        elif first is None or first.stream_id != received.stream_id or not received.payload:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        else:
            content = self._content + received.payload
        if len(content) > HEADER_LIST_BYTES_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if not received.flags & frames.END_HEADERS:
            self._first, self._content = first, content
            return None
        self._first, self._content = None, b""
        return HeaderBlock(first.stream_id, bool(first.flags & frames.END_STREAM), content)


class ResponseHeaders(NamedTuple):
    """What a block of an answer says; None where it does not say it."""

    status: int | None
    content_type: str
    grpc_status: int | None
    grpc_message: str


@lru_cache(maxsize=BLOCKS_MAX)
def request_headers(
    path: str, authority: str, metadata: Metadata, timeout_ms: int, *, secure: bool
) -> bytes:
    """The header block of a call; ``timeout_ms`` 0: the server is given no deadline."""
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


@lru_cache(maxsize=BLOCKS_MAX)
def response_headers(block: bytes) -> ResponseHeaders:
    """What a header block of an answer says. Raises ProtocolError."""
    decoder = hpack.Decoder(max_header_list_size=HEADER_LIST_BYTES_MAX)
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        pairs = decoder.decode(block, raw=True)
    except hpack.HPACKError as error:
        raise ProtocolError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
    found = {bytes(name): bytes(value).decode("ascii", "replace") for name, value in pairs}
    return ResponseHeaders(
        _number(found.get(b":status")),
        found.get(b"content-type", ""),
        _number(found.get(b"grpc-status")),
        unquote(found.get(b"grpc-message", "")),
    )


def _literal(name: str, value: str) -> bytes:
    kind = _NEVER_INDEXED if name in _SECRET_NAMES else _LITERAL
    return kind + _text(name) + _text(value)


def _text(text: str) -> bytes:
    """A string without Huffman coding: its length in a prefix of seven bits, its bytes."""
    content = text.encode("ascii")
    size = len(content)
    if size < 0x7F:
        return bytes((size,)) + content
    groups = bytearray((0x7F,))
    rest = size - 0x7F
    while rest > 0x7F:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    groups.append(rest)
    return bytes(groups) + content


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= 3 else None
