"""Encodes and decodes netlink messages (RFC 3549 section 2, include/uapi/linux/netlink.h).

Messages and attributes are in the machine's byte order, and padded to four bytes. Decoding stops at
the first truncated message or attribute.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from nodeagent.netlink.numbers import NLA_F_NESTED, NLA_TYPE_MASK

MESSAGE_HEADER: Final = Struct("=IHHII")
ATTRIBUTE: Final = Struct("=HH")
ATTRIBUTE_BYTES: Final = ATTRIBUTE.size
ATTRIBUTE_U32: Final = Struct("=HHI")
U16: Final = Struct("=H")
U32: Final = Struct("=I")
I32: Final = Struct("=i")

_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


Message = tuple[int, int, int, memoryview]
"""Type, flags, sequence number and body. A plain tuple: a list may have thousands of messages."""


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Encode one message to the kernel."""
    length = MESSAGE_HEADER.size + len(body)
    return MESSAGE_HEADER.pack(length, kind, flags, sequence, 0) + body + _PADDING[length & 3]


def messages(data: memoryview) -> list[Message]:
    """Split a datagram into messages."""
    result = []
    unpack, size, end = MESSAGE_HEADER.unpack_from, MESSAGE_HEADER.size, len(data)
    offset = 0
    while offset + size <= end:
        length, kind, flags, sequence, _ = unpack(data, offset)
        if length < size or offset + length > end:
            break
        result.append((kind, flags, sequence, data[offset + size : offset + length]))
        offset += (length + 3) & ~3
    return result


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + _PADDING[length & 3]


def attribute_u32(kind: int, value: int) -> bytes:
    """Encode one attribute with an unsigned 32-bit number."""
    return ATTRIBUTE_U32.pack(ATTRIBUTE_U32.size, kind, value)


def attribute_text(kind: int, text: str) -> bytes:
    """Encode one attribute with a NUL-terminated text."""
    return attribute(kind, text.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode one attribute that contains other attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: memoryview | bytes) -> dict[int, memoryview]:
    """Type -> value. If a type occurs twice, the last value is used."""
    return dict(_attributes(memoryview(data)))


def elements(data: memoryview) -> list[memoryview]:
    """The values of a list, which netlink encodes as consecutive attributes."""
    return [value for _, value in _attributes(data)]


def _attributes(view: memoryview) -> list[tuple[int, memoryview]]:
    """Type and value of each attribute. A list, because a generator is slower here."""
    result = []
    unpack, last = ATTRIBUTE.unpack_from, len(view) - ATTRIBUTE_BYTES
    offset = 0
    while offset <= last:
        length, kind = unpack(view, offset)
        end = offset + length
        if length < ATTRIBUTE_BYTES or end > last + ATTRIBUTE_BYTES:
            break
        result.append((kind & NLA_TYPE_MASK, view[offset + ATTRIBUTE_BYTES : end]))
        offset = (end + 3) & ~3
    return result


def u32(value: memoryview | None, default: int = 0) -> int:
    """The number, or ``default`` if the attribute is missing."""
    return default if value is None else int(U32.unpack_from(value)[0])


def text(value: memoryview | None) -> str:
    """The text without its NUL; "" if the attribute is missing."""
    return "" if value is None else bytes(value).rstrip(b"\0").decode(errors="replace")
