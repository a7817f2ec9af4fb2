"""Encoding and decoding of HTTP/2 frames (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

FRAME_BYTES_MAX: Final = 16_384
"""The largest payload, unless the receiver sets MAX_FRAME_SIZE; our settings do not."""

FRAME_SIZE_LIMIT: Final = (1 << 24) - 1
"""The largest MAX_FRAME_SIZE in bytes; the smallest is ``FRAME_BYTES_MAX``."""

STREAM_ID_MAX: Final = (1 << 31) - 1
WINDOW_MAX: Final = (1 << 31) - 1
WINDOW_INITIAL: Final = 65_535  # bytes

# Types of frames.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6


class ErrorCode(IntEnum):
    """Codes of RST_STREAM and GOAWAY (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """The peer violated the protocol: the connection ends with ``code``."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Frame(NamedTuple):
    """A received frame."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


_HEADER: Final = Struct(">BHBBL")
_SETTING: Final = Struct(">HL")
_NUMBER: Final = Struct(">L")
_PAIR: Final = Struct(">LL")


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return header(len(payload), kind, flags, stream_id) + payload


def header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The header of a frame. ``size``: bytes of payload."""
    return _HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_SETTING.pack(*setting) for setting in values)
    return encode_frame(SETTINGS, flags=0, stream_id=0, payload=payload)


def window_update(stream_id: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame: the peer may send ``size`` bytes more."""
    return header(size=4, kind=WINDOW_UPDATE, flags=0, stream_id=stream_id) + _NUMBER.pack(size)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """An RST_STREAM frame."""
    return header(size=4, kind=RST_STREAM, flags=0, stream_id=stream_id) + _NUMBER.pack(code)


def goaway(code: ErrorCode) -> bytes:
    """A GOAWAY frame. The server opens no streams, so the last stream is 0."""
    return header(size=8, kind=GOAWAY, flags=0, stream_id=0) + _PAIR.pack(0, code)


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The complete frames, and the remaining bytes.

    Raises ProtocolError for a frame larger than ``FRAME_BYTES_MAX``.
    """
    frames: list[Frame] = []
    at, end = 0, len(data)
    while end - at >= HEADER_BYTES:
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data, at)
        start = at + HEADER_BYTES
        size = high << 16 | low
        if size > FRAME_BYTES_MAX:
            text = f"a frame of {size} bytes exceeds the limit of {FRAME_BYTES_MAX}"
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
        if end - start < size:
            break
        at = start + size
        frames.append(Frame(kind, flags, stream_id & STREAM_ID_MAX, data[start:at]))
    return frames, data[at:]


def without_padding(received: Frame) -> bytes:
    """The payload without padding and priority. Raises ProtocolError."""
    content = received.payload
    if not received.flags & (PADDED | PRIORITY_FLAG):
        return content
    if received.flags & PADDED:
        padding = content[0] if content else len(content)
        if padding >= len(content):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the padding fills the whole frame")
        content = content[1 : len(content) - padding]
    if received.kind == HEADERS and received.flags & PRIORITY_FLAG:
        content = content[5:]
    return content


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """(setting, value) pairs. Raises ProtocolError."""
    if len(payload) % _SETTING.size:
        text = f"a SETTINGS frame of {len(payload)} bytes: not a multiple of {_SETTING.size}"
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
    return _SETTING.iter_unpack(payload)


def read_number(received: Frame) -> int:
    """The code of an RST_STREAM or the increment of a WINDOW_UPDATE. Raises ProtocolError."""
    if len(received.payload) != _NUMBER.size:
        name = "RST_STREAM" if received.kind == RST_STREAM else "WINDOW_UPDATE"
        text = f"a {name} frame of {len(received.payload)} bytes, not {_NUMBER.size}"
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
    return int(_NUMBER.unpack(received.payload)[0])


def read_goaway(payload: bytes) -> tuple[int, int, str]:
    """The last processed stream, the code, the message. Raises ProtocolError."""
    if len(payload) < _PAIR.size:
        text = f"a GOAWAY frame of {len(payload)} bytes, fewer than {_PAIR.size}"
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
    last, code = _PAIR.unpack_from(payload)
    return last & STREAM_ID_MAX, code, payload[_PAIR.size :].decode("utf-8", "replace")
