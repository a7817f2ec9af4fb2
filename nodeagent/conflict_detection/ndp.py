"""Encodes and decodes neighbour solicitations and advertisements (RFC 4861 4.3, 4.4; RFC 4443 2.3).

Encodes complete frames: the kernel's IPv6 sockets cannot send from an address that is not on the
link yet. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from nodeagent.conflict_detection.ethernet import (
    ETHERTYPE_IPV6,
    MAC_BYTES,
    Ethernet,
    decode_frame,
    encode_frame,
)

SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
UNSPECIFIED_ADDRESS: Final = bytes(16)
ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
SOLICITED_NODE_PREFIX: Final = bytes.fromhex("ff0200000000000000000001ff")
"""The prefix of RFC 4291 2.7.1, before the last three bytes of a host's address."""

_IPV6: Final = struct.Struct("!IHBB16s16s")
_MESSAGE: Final = struct.Struct("!BBHI16s")
_PSEUDO: Final = struct.Struct("!16s16sIxxxB")
_VERSION_6: Final = 6
_VERSION_SHIFT: Final = 28

_NEXT_HEADER_ICMPV6: Final = 58
_HOP_LIMIT: Final = 255
"""The required hop limit (RFC 4861 7.1): a message with 255 has not passed a router."""

_ROUTER: Final = 1 << 31
_SOLICITED: Final = 1 << 30
_OVERRIDE: Final = 1 << 29

_SOURCE_LINK: Final = 1
_TARGET_LINK: Final = 2
_OPTION_UNIT_BYTES: Final = 8
_MULTICAST: Final = 0xFF


class Solicitation(NamedTuple):
    """A request for the MAC address of ``target``. IP addresses have 16 bytes.

    With an unspecified ``source``, the request is a probe (RFC 4862 5.4.2). ``link``: the source
    link-layer address option, or b"".
    """

    source: bytes
    target: bytes
    link: bytes = b""


class Advertisement(NamedTuple):
    """A message that gives the MAC address of ``target``.

    ``link``: the target link-layer address option, or b"".
    """

    source: bytes
    destination: bytes
    target: bytes
    link: bytes = b""
    router: bool = False
    solicited: bool = False
    override: bool = False


Message: TypeAlias = Solicitation | Advertisement


class ReceivedMessage(NamedTuple):
    """A message and the MAC address that sent its frame."""

    message: Message
    sender: bytes


def solicited_node(address: bytes) -> bytes:
    """The solicited-node multicast group of an address."""
    return SOLICITED_NODE_PREFIX + address[-3:]


def group_mac(group: bytes) -> bytes:
    """The Ethernet address of an IPv6 multicast group (RFC 2464, 7)."""
    return b"\x33\x33" + group[-4:]


def encode_solicitation(message: Solicitation, mac: bytes) -> bytes:
    """Encode a solicitation as a frame to the solicited-node group of ``target``."""
    destination = solicited_node(message.target)
    body = _MESSAGE.pack(SOLICITATION, 0, 0, 0, message.target)
    body += _option(_SOURCE_LINK, message.link)
    return _encode(message.source, destination, group_mac(destination), mac, body)


def encode_advertisement(message: Advertisement, mac: bytes, to: bytes = b"") -> bytes:
    """Encode a frame. ``to``: the receiver's MAC address. A group as ``destination`` needs none."""
    flags = (
        (_ROUTER if message.router else 0)
        | (_SOLICITED if message.solicited else 0)
        | (_OVERRIDE if message.override else 0)
    )
    body = _MESSAGE.pack(ADVERTISEMENT, 0, 0, flags, message.target)
    body += _option(_TARGET_LINK, message.link)
    receiver = to or group_mac(message.destination)
    return _encode(message.source, message.destination, receiver, mac, body)


def decode_message(data: bytes) -> ReceivedMessage | None:
    """Decode a frame. None if a host must discard the message (RFC 4861 7.1.1, 7.1.2)."""
    frame = decode_frame(data)
    if frame is None or frame.ethertype != ETHERTYPE_IPV6 or len(frame.payload) < _IPV6.size:
        return None
    first_word, length, next_header, hops, source, destination = _IPV6.unpack_from(frame.payload)
    body = frame.payload[_IPV6.size : _IPV6.size + length]
    if (
        first_word >> _VERSION_SHIFT != _VERSION_6
        or (next_header, hops) != (_NEXT_HEADER_ICMPV6, _HOP_LIMIT)
        or not _MESSAGE.size <= length == len(body)
        or checksum(source, destination, body)
    ):
        return None
    message = _message(source, destination, body)
    return None if message is None else ReceivedMessage(message, frame.source)


def checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """The checksum of pseudo-header and body (RFC 8200 8.1); 0 if ``body`` contains it already."""
    data = _PSEUDO.pack(source, destination, len(body), _NEXT_HEADER_ICMPV6) + body
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _encode(source: bytes, destination: bytes, to: bytes, mac: bytes, body: bytes) -> bytes:
    checked = body[:2] + checksum(source, destination, body).to_bytes(2, "big") + body[4:]
    first_word = _VERSION_6 << _VERSION_SHIFT
    header = _IPV6.pack(first_word, len(body), _NEXT_HEADER_ICMPV6, _HOP_LIMIT, source, destination)
    return encode_frame(Ethernet(to, mac, ETHERTYPE_IPV6, header + checked))


def _option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac if mac else b""


def _message(source: bytes, destination: bytes, body: bytes) -> Message | None:
    kind, code, _, flags, target = _MESSAGE.unpack_from(body)
    options = dict(_options(body[_MESSAGE.size :]))
    if code or target[0] == _MULTICAST or None in options.values():
        return None
    if kind == SOLICITATION:
        link = options.get(_SOURCE_LINK) or b""
        probing = source == UNSPECIFIED_ADDRESS
        if probing and (link or not destination.startswith(SOLICITED_NODE_PREFIX)):
            return None
        return Solicitation(source, target, link)
    if kind != ADVERTISEMENT or (destination[0] == _MULTICAST and flags & _SOLICITED):
        return None
    return Advertisement(
        source,
        destination,
        target,
        options.get(_TARGET_LINK) or b"",
        router=bool(flags & _ROUTER),
        solicited=bool(flags & _SOLICITED),
        override=bool(flags & _OVERRIDE),
    )


def _options(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Kind and MAC address of each link-layer option; ends with (0, None) if a length is wrong."""
    while data:
        size = data[1] * _OPTION_UNIT_BYTES if len(data) > 1 else 0
        if not 0 < size <= len(data):
            yield 0, None
            return
        if data[0] in (_SOURCE_LINK, _TARGET_LINK) and size == _OPTION_UNIT_BYTES:
            yield data[0], data[2 : 2 + MAC_BYTES]
        data = data[size:]
