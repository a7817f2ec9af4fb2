"""Parses and formats IP addresses, ranges and prefixes.

The parser is as strict as Spiderpool's: no spaces, no leading zeros in IPv4 octets, no zones
(docs/reference/admission.md, "Addresses and ranges").

An IPv4-mapped text (``::ffff:a.b.c.d``, RFC 4291 section 2.5.5.2) is read as an IPv4 address. For
the fields of a SpiderCoordinator, the ``parse_*_as_written`` functions read it as IPv6.
"""

from __future__ import annotations

from enum import StrEnum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, Literal, NamedTuple, TypeAlias

from core.errors import BadInput

Family: TypeAlias = Literal[4, 6]
V4: Final = 4
V6: Final = 6

ADDRESS_BITS: Final[dict[Family, int]] = {V4: 32, V6: 128}
VALUE_MAX: Final[dict[Family, int]] = {V4: 2**32 - 1, V6: 2**128 - 1}

_MAPPED_PREFIX: Final = 0xFFFF  # the upper 96 bits of ::ffff:0:0/96
_MAPPED_PREFIX_BITS: Final = 96
_PREFIX_DIGITS_MAX: Final = 3  # without leading zeros
_QUOTED_CHARS_MAX: Final = 80


class SyntaxFault(StrEnum):
    """Why a text was refused; a part of the error message."""

    NOT_AN_ADDRESS = "is not an IP address"
    ZONE = "carries a zone, which no pool or route can use"
    CIDR_FORM = "has a prefix length; write only an address, or A-B in a list of ranges"
    NOT_A_PREFIX = "has no prefix length"
    PREFIX_LENGTH = "needs a prefix length from 0 to 32 (IPv4) or 0 to 128 (IPv6)"
    PREFIX_ZEROS = "has leading zeros in its prefix length; write it without them"
    MAPPED_PREFIX = "is an IPv4-mapped prefix that is wider than all of IPv4"
    REVERSED = "ends before it begins"
    MIXED_FAMILIES = "mixes IPv4 and IPv6"
    WRONG_FAMILY = "is of the other IP version"


class AddressSyntaxError(ValueError):
    """A text that is not an address, range or prefix."""

    def __init__(self, text: str, fault: SyntaxFault) -> None:
        quoted_text = text if len(text) <= _QUOTED_CHARS_MAX else text[:_QUOTED_CHARS_MAX] + "..."
        super().__init__(f"{quoted_text!r} {fault}")
        self.text = text
        self.fault = fault


class Address(NamedTuple):
    """One address. ``value``: the big-endian integer of the 32 or 128 bits."""

    family: Family
    value: int

    def __str__(self) -> str:
        return format_address(self.family, self.value)


class AddressRange(NamedTuple):
    """All addresses from ``first`` to ``last``, both included."""

    family: Family
    first: int
    last: int

    def __str__(self) -> str:
        return format_range(self.family, self.first, self.last)


class Cidr(NamedTuple):
    """A prefix from ``first`` to ``last``, both included. ``address`` keeps the host bits."""

    family: Family
    first: int
    last: int
    prefix_length: int
    address: int

    def __str__(self) -> str:
        return f"{format_address(self.family, self.first)}/{self.prefix_length}"

    def text_with_host_bits(self) -> str:
        """Canonical text that keeps the host bits, such as ``10.0.0.7/24``."""
        return f"{format_address(self.family, self.address)}/{self.prefix_length}"


def parse_address(text: str) -> Address:
    """Read one address; IPv4-mapped text gives family 4. Raises AddressSyntaxError."""
    try:
        if ":" not in text:
            return Address(V4, int.from_bytes(inet_pton(AF_INET, text), "big"))
        value = int.from_bytes(inet_pton(AF_INET6, text), "big")
    except (OSError, ValueError):  # ValueError: NUL characters and lone surrogates
        raise AddressSyntaxError(text, _address_fault(text)) from None
    if value >> 32 == _MAPPED_PREFIX:
        return Address(V4, value & VALUE_MAX[V4])
    return Address(V6, value)


def require_address(text: str, subject: str = "address") -> Address:
    """Read an address from the field ``subject``. Raises BadInput."""
    try:
        return parse_address(text)
    except AddressSyntaxError as error:
        raise BadInput(str(error), subject=subject) from None


def parse_address_as_written(text: str) -> Address:
    """Read an address of a SpiderCoordinator; IPv4-mapped text gives family 6.

    Raises AddressSyntaxError.
    """
    family, value = parse_address(text)
    if family == V4 and ":" in text:
        return Address(V6, _MAPPED_PREFIX << 32 | value)
    return Address(family, value)


def format_address(family: Family, value: int) -> str:
    """Canonical text, for IPv6 as in RFC 5952 (IPv4-mapped values: section 5).

    Raises OverflowError outside the family.
    """
    if family == V4:
        return inet_ntop(AF_INET, value.to_bytes(4, "big"))
    if 0x10000 <= value <= 0xFFFFFFFF:
        # The C library writes these values in the withdrawn "IPv4-compatible" form ::a.b.c.d.
        return f"::{value >> 16:x}:{value & 0xFFFF:x}"
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))


def parse_range(text: str) -> AddressRange:
    """Read ``A`` or ``A-B`` with A <= B, of one family, no CIDR. Raises AddressSyntaxError."""
    first_text, dash, last_text = text.partition("-")
    try:
        family, first = parse_address(first_text)
        if not dash:
            return AddressRange(family, first, first)
        last_family, last = parse_address(last_text)
    except AddressSyntaxError as error:
        raise AddressSyntaxError(text, error.fault) from None
    if last_family != family:
        raise AddressSyntaxError(text, SyntaxFault.MIXED_FAMILIES)
    if last < first:
        raise AddressSyntaxError(text, SyntaxFault.REVERSED)
    return AddressRange(family, first, last)


def format_range(family: Family, first: int, last: int) -> str:
    """``A`` for a range of one address, else ``A-B``."""
    if first == last:
        return format_address(family, first)
    return f"{format_address(family, first)}-{format_address(family, last)}"


def parse_cidr(text: str) -> Cidr:
    """Read ``address/length``; host bits are kept in ``Cidr.address``.

    Leading zeros in the length are ignored. ``::ffff:11.0.0.0/104`` is 11.0.0.0/8; an IPv4-mapped
    prefix of fewer than 96 bits is refused, because it contains addresses of both families. A text
    is canonical if it equals ``str()`` of the result. Raises AddressSyntaxError.
    """
    address_text, length = _prefix_parts(text)
    family, value = _address_part(text, address_text)
    if family == V4 and ":" in address_text:
        if length < _MAPPED_PREFIX_BITS:
            raise AddressSyntaxError(text, SyntaxFault.MAPPED_PREFIX)
        length -= _MAPPED_PREFIX_BITS
    return cidr_of(family, value, length, text)


def parse_cidr_as_written(text: str) -> Cidr:
    """Read a prefix of a SpiderCoordinator; IPv4-mapped text gives family 6.

    Leading zeros in the length are refused. Raises AddressSyntaxError.
    """
    address_text, length = _prefix_parts(text)
    if not text.endswith(f"/{length}"):
        raise AddressSyntaxError(text, SyntaxFault.PREFIX_ZEROS)
    family, value = _address_part(text, address_text)
    if family == V4 and ":" in address_text:
        family, value = V6, _MAPPED_PREFIX << 32 | value
    return cidr_of(family, value, length, text)


def cidr_of(family: Family, address: int, prefix_length: int, text: str = "") -> Cidr:
    """The prefix of ``prefix_length`` bits that contains ``address``.

    Raises AddressSyntaxError, which quotes ``text``, if the family has no such prefix length.
    """
    host_length = ADDRESS_BITS[family] - prefix_length
    if not 0 <= host_length <= ADDRESS_BITS[family]:
        raise AddressSyntaxError(text or f"/{prefix_length}", SyntaxFault.PREFIX_LENGTH)
    host_mask = (1 << host_length) - 1
    last = address | host_mask
    return Cidr(family, last ^ host_mask, last, prefix_length, address)


def _prefix_parts(text: str) -> tuple[str, int]:
    address_text, slash, digits = text.partition("/")
    if not slash:
        raise AddressSyntaxError(text, SyntaxFault.NOT_A_PREFIX)
    significant_digits = digits.lstrip("0")
    # str.isdigit() and int() also accept the digits of other scripts.
    if not (digits.isascii() and digits.isdigit()) or len(significant_digits) > _PREFIX_DIGITS_MAX:
        raise AddressSyntaxError(text, SyntaxFault.PREFIX_LENGTH)
    return address_text, int(significant_digits or "0")


def _address_part(text: str, address_text: str) -> Address:
    try:
        return parse_address(address_text)
    except AddressSyntaxError as error:
        raise AddressSyntaxError(text, error.fault) from None


def _address_fault(text: str) -> SyntaxFault:
    if "%" in text:
        return SyntaxFault.ZONE
    if "/" in text:
        return SyntaxFault.CIDR_FORM
    return SyntaxFault.NOT_AN_ADDRESS
