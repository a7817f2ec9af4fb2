"""Strict parsing and formatting of addresses, compared with the module ``ipaddress``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.domain.addresses.ip_address import (
    V4,
    V6,
    VALUE_MAX,
    Address,
    AddressRange,
    AddressSyntaxError,
    Family,
    SyntaxFault,
    cidr_of,
    format_address,
    format_range,
    parse_address,
    parse_address_as_written,
    parse_cidr,
    parse_cidr_as_written,
    parse_range,
)

MAPPED_FIRST = 0xFFFF << 32
MAPPED_LAST = MAPPED_FIRST | VALUE_MAX[V4]

V4_VALUES = st.integers(0, VALUE_MAX[V4])
# The positions of zero groups decide how an IPv6 address is written.
V6_VALUES = st.lists(st.sampled_from([0, 0, 1, 0xFFFF, 0xA0B]), min_size=8, max_size=8).map(
    lambda groups: sum(group << 16 * index for index, group in enumerate(groups))
)
ADDRESS_LIKE_TEXTS = st.text(alphabet="0123456789abcf:.%/ -", max_size=24)


def fault_of(parse: Callable[[str], object], text: str) -> SyntaxFault:
    with pytest.raises(AddressSyntaxError) as caught:
        parse(text)
    assert caught.value.text == text
    return caught.value.fault


@settings(max_examples=200, deadline=None)
@given(V4_VALUES)
@example(0)
@example(VALUE_MAX[V4])
def test_ipv4_formatting_equals_ipaddress_and_parses_back(value: int) -> None:
    text = format_address(V4, value)

    assert text == str(ipaddress.IPv4Address(value))
    assert parse_address(text) == (V4, value)


@settings(max_examples=300, deadline=None)
@given(st.one_of(V6_VALUES, st.integers(0, VALUE_MAX[V6])))
@example(0)
@example(1)
@example(0xFFFF)
@example(0x10000)
@example(0xFFFFFFFF)
@example(0x1_0000_0000)
@example(VALUE_MAX[V6])
def test_ipv6_formatting_equals_ipaddress_and_parses_back(value: int) -> None:
    if MAPPED_FIRST <= value <= MAPPED_LAST:
        return
    text = format_address(V6, value)

    assert text == str(ipaddress.IPv6Address(value))
    assert parse_address(text) == (V6, value)
    assert parse_address(ipaddress.IPv6Address(value).exploded.upper()) == (V6, value)


@settings(max_examples=100, deadline=None)
@given(V4_VALUES)
def test_an_ipv4_mapped_text_is_ipv4_unless_it_is_parsed_as_written(value: int) -> None:
    text = f"::ffff:{ipaddress.IPv4Address(value)}"

    assert parse_address(text) == Address(V4, value)
    assert parse_address_as_written(text) == Address(V6, MAPPED_FIRST | value)
    assert format_address(V6, MAPPED_FIRST | value) == text


def test_both_parsers_agree_on_an_address_that_is_not_ipv4_mapped() -> None:
    assert parse_address_as_written("10.0.0.1") == parse_address("10.0.0.1")
    assert parse_address_as_written("fd00::1") == parse_address("fd00::1")


@settings(max_examples=400, deadline=None)
@given(ADDRESS_LIKE_TEXTS)
@example("1::2::3")
@example("1:2:3:4:5:6:7::8")
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1:2:3:4:5:6:1.2.3.4")
@example("1:2:3:4:5:1.2.3.4")
@example("::1.2.3")
@example(":1::2")
@example("1:2:3:4:5:6:7:")
def test_a_text_is_parsed_as_by_ipaddress_except_that_zones_are_refused(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        assert fault_of(parse_address, text) in SyntaxFault
    else:
        if "%" in text:
            assert fault_of(parse_address, text) == SyntaxFault.ZONE
        else:
            parsed = parse_address_as_written(text)
            assert parsed == (expected.version, int(expected))


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "10.0.0.01", "010.0.0.1", "10.0.0", "10.0.0.256", "10.0.0.1.", "0x0a.0.0.1"],
        *[" 10.0.0.1", "10.0.0.1 ", "10.0.0.1\n", "10.0.0.1\0", "1\ud8000.0.0.1", "167772161"],
        *["::ffff:10.0.0.01", "::12345", "00001::", "g::", ":::", "[::1]", "\u0661.0.0.1"],
    ],
)
def test_a_text_that_is_not_an_address_is_refused(text: str) -> None:
    assert fault_of(parse_address, text) == SyntaxFault.NOT_AN_ADDRESS


def test_a_zone_and_a_prefix_length_have_their_own_faults() -> None:
    assert fault_of(parse_address, "fe80::1%eth0") == SyntaxFault.ZONE
    assert fault_of(parse_address, "10.0.0.0/24") == SyntaxFault.CIDR_FORM


def test_an_error_stores_a_long_text_but_quotes_only_a_part() -> None:
    with pytest.raises(AddressSyntaxError) as caught:
        parse_address("1" * 10_000)

    assert caught.value.text == "1" * 10_000
    assert str(caught.value) == f"'{'1' * 80}...' is not an IP address"
    assert str(caught.value.fault) == "is not an IP address"


@pytest.mark.parametrize(("family", "value"), [(V4, 2**32), (V6, 2**128), (V4, -1), (V6, -1)])
def test_formatting_a_value_outside_the_family_raises_overflow_error(
    family: Family, value: int
) -> None:
    with pytest.raises(OverflowError):
        format_address(family, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", (V4, 0x0A000001, 0x0A000001)),
        ("10.0.0.1-10.0.1.0", (V4, 0x0A000001, 0x0A000100)),
        ("10.0.0.1-10.0.0.1", (V4, 0x0A000001, 0x0A000001)),
        ("::ffff:10.0.0.1-10.0.0.2", (V4, 0x0A000001, 0x0A000002)),
        ("FD00::1-fd00:0::2", (V6, (0xFD << 120) + 1, (0xFD << 120) + 2)),
        ("0.0.0.0-255.255.255.255", (V4, 0, VALUE_MAX[V4])),
        ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (V6, 0, VALUE_MAX[V6])),
    ],
)
def test_an_item_is_one_address_or_a_range(text: str, expected: tuple[Family, int, int]) -> None:
    assert parse_range(text) == AddressRange(*expected)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.9-10.0.0.1", SyntaxFault.REVERSED),
        ("10.0.0.1-fd00::1", SyntaxFault.MIXED_FAMILIES),
        ("::1-::ffff:10.0.0.1", SyntaxFault.MIXED_FAMILIES),
        ("10.0.0.1 - 10.0.0.9", SyntaxFault.NOT_AN_ADDRESS),
        ("10.0.0.1-", SyntaxFault.NOT_AN_ADDRESS),
        ("-10.0.0.1", SyntaxFault.NOT_AN_ADDRESS),
        ("10.0.0.1-10.0.0.2-10.0.0.3", SyntaxFault.NOT_AN_ADDRESS),
        ("10.0.0.1-9", SyntaxFault.NOT_AN_ADDRESS),
        ("10.0.0.0/24", SyntaxFault.CIDR_FORM),
        ("fe80::1-fe80::2%eth0", SyntaxFault.ZONE),
    ],
)
def test_a_malformed_item_is_refused(text: str, fault: SyntaxFault) -> None:
    assert fault_of(parse_range, text) == fault


@settings(max_examples=100, deadline=None)
@given(V4_VALUES, V4_VALUES)
def test_a_formatted_range_parses_back(left: int, right: int) -> None:
    first, last = sorted((left, right))

    item = parse_range(format_range(V4, first, last))

    assert item == (V4, first, last)
    assert str(item) == format_range(V4, first, last)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.tuples(V4_VALUES, st.integers(0, 32)), st.tuples(V6_VALUES, st.integers(0, 128)))
)
def test_the_bounds_of_a_prefix_equal_those_of_ipaddress(
    parts: tuple[int, int],
) -> None:
    value, length = parts
    kind = ipaddress.IPv4Interface if value <= VALUE_MAX[V4] and length <= 32 else None
    interface = (kind or ipaddress.IPv6Interface)((value, length))
    if MAPPED_FIRST <= value <= MAPPED_LAST:
        return
    network = interface.network

    cidr = parse_cidr(str(interface))

    assert cidr.family == network.version
    assert (cidr.first, cidr.last) == (int(network[0]), int(network[-1]))
    assert cidr.prefix_length == length
    assert cidr.text_with_host_bits() == str(interface)
    if not MAPPED_FIRST <= cidr.first <= MAPPED_LAST:
        assert str(cidr) == str(network)
    assert parse_cidr_as_written(str(interface)) == cidr


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.0/016", "10.0.0.0/16"),
        ("10.0.0.7/24", "10.0.0.0/24"),
        ("FD00::/0000000000112", "fd00::/112"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("0::0/00", "::/0"),
        ("::ffff:11.0.0.0/104", "11.0.0.0/8"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
    ],
)
def test_the_text_of_a_prefix_is_canonical(text: str, canonical: str) -> None:
    assert str(parse_cidr(text)) == canonical
    assert str(parse_cidr(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.0", SyntaxFault.NOT_A_PREFIX),
        *[(f"10.0.0.0/{length}", SyntaxFault.PREFIX_LENGTH) for length in ("", "33", "-1", "+8")],
        *[(f"10.0.0.0/{length}", SyntaxFault.PREFIX_LENGTH) for length in (" 8", "1_6", "8/8")],
        ("10.0.0.0/\u0661", SyntaxFault.PREFIX_LENGTH),
        ("10.0.0.0/" + "9" * 5000, SyntaxFault.PREFIX_LENGTH),
        ("fd00::/129", SyntaxFault.PREFIX_LENGTH),
        ("fe80::%eth0/64", SyntaxFault.ZONE),
        ("::ffff:10.0.0.0/95", SyntaxFault.MAPPED_PREFIX),
        ("::ffff:10.0.0.0/129", SyntaxFault.PREFIX_LENGTH),
        ("10.0.0/8", SyntaxFault.NOT_AN_ADDRESS),
    ],
)
def test_a_text_that_is_not_a_prefix_is_refused(text: str, fault: SyntaxFault) -> None:
    assert fault_of(parse_cidr, text) == fault


def test_parse_cidr_as_written_keeps_the_family_of_the_text() -> None:
    cidr = parse_cidr_as_written("::ffff:10.9.9.9/128")

    assert (cidr.family, cidr.prefix_length) == (V6, 128)
    assert str(cidr) == "::ffff:10.9.9.9/128"
    assert parse_cidr_as_written("::ffff:10.9.9.9/64").first == 0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.0/08", SyntaxFault.PREFIX_ZEROS),
        ("10.0.0.0/00", SyntaxFault.PREFIX_ZEROS),
        ("10.0.0.0/33", SyntaxFault.PREFIX_LENGTH),
        ("10.0.0.0/+8", SyntaxFault.PREFIX_LENGTH),
    ],
)
def test_parse_cidr_as_written_refuses_a_wrong_prefix_length(text: str, fault: SyntaxFault) -> None:
    assert fault_of(parse_cidr_as_written, text) == fault


def test_cidr_of_clears_host_bits_and_refuses_a_length_beyond_the_family() -> None:
    assert str(cidr_of(V4, 0x0A000007, 24)) == "10.0.0.0/24"
    with pytest.raises(AddressSyntaxError, match="'/33' needs a prefix length"):
        cidr_of(V4, 0, 33)


def test_str_of_an_address_is_its_text() -> None:
    assert str(Address(V4, value=1)) == "0.0.0.1"
    assert str(Address(V6, value=1)) == "::1"
