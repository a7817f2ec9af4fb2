"""Address sets behave like sets of integers; their cost grows with intervals, not addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    V4,
    V6,
    VALUE_MAX,
    AddressSyntaxError,
    Family,
    SyntaxFault,
    format_address,
    parse_address,
    parse_cidr,
)

REGION_SIZE = 40
FAMILY_LIST: list[Family] = [V4, V6]
FAMILIES = st.sampled_from(FAMILY_LIST)
INTERVALS = st.tuples(st.integers(0, REGION_SIZE - 1), st.integers(0, 6)).map(
    lambda pair: (pair[0], min(pair[0] + pair[1], REGION_SIZE - 1))
)
INTERVAL_LISTS = st.lists(INTERVALS, max_size=8)
# The lowest and the highest addresses of each family.
REGIONS: list[tuple[Family, int]] = [
    (family, offset)
    for family in FAMILY_LIST
    for offset in (0, VALUE_MAX[family] - REGION_SIZE + 1)
]
REGION = st.sampled_from(REGIONS)


def set_of(pairs: Iterable[tuple[int, int]], region: tuple[Family, int]) -> AddressSet:
    family, offset = region
    return AddressSet.from_intervals(
        ((first + offset, last + offset) for first, last in pairs), family
    )


def values_of(pairs: Iterable[tuple[int, int]], offset: int) -> set[int]:
    return {value + offset for first, last in pairs for value in range(first, last + 1)}


def members(addresses: AddressSet) -> set[int]:
    assert_intervals_are_sorted_and_apart(addresses)
    return {value for first, last in addresses for value in range(first, last + 1)}


def assert_intervals_are_sorted_and_apart(addresses: AddressSet) -> None:
    previous_last = -2
    for first, last in addresses.intervals:
        assert previous_last + 1 < first <= last
        previous_last = last
    assert previous_last <= VALUE_MAX[addresses.family]


def v4(*items: str) -> AddressSet:
    return AddressSet.from_items(items, V4)


def v6(*items: str) -> AddressSet:
    return AddressSet.from_items(items, V6)


@settings(max_examples=200, deadline=None)
@given(INTERVAL_LISTS, INTERVAL_LISTS, REGION)
def test_set_operations_equal_those_of_sets_of_integers(
    left_pairs: list[tuple[int, int]],
    right_pairs: list[tuple[int, int]],
    region: tuple[Family, int],
) -> None:
    left, right = set_of(left_pairs, region), set_of(right_pairs, region)
    left_model, right_model = values_of(left_pairs, region[1]), values_of(right_pairs, region[1])

    assert members(left | right) == left_model | right_model
    assert members(left - right) == left_model - right_model
    assert members(left & right) == left_model & right_model
    assert left.isdisjoint(right) == left_model.isdisjoint(right_model)
    assert left.issubset(right) == left_model.issubset(right_model)
    assert (left == right) == (left_model == right_model)


@settings(max_examples=150, deadline=None)
@given(INTERVAL_LISTS, REGION)
def test_membership_size_order_and_removal_equal_a_sorted_list(
    pairs: list[tuple[int, int]], region: tuple[Family, int]
) -> None:
    addresses, model = set_of(pairs, region), values_of(pairs, region[1])
    ordered = sorted(model)

    assert members(addresses) == model
    assert bool(addresses) == bool(model)
    assert addresses.size == addresses.clamped_size == len(model)
    assert [addresses.nth(index) for index in range(len(model))] == ordered
    for value in range(region[1], region[1] + REGION_SIZE):
        assert (value in addresses) == (value in model)
        assert addresses.rank(value) == sum(member < value for member in ordered)
        removed = AddressSet.from_values([value], addresses.family)
        assert members(addresses - removed) == model - {value}
    if ordered:
        assert (addresses.first(), addresses.last()) == (ordered[0], ordered[-1])


@settings(max_examples=150, deadline=None)
@given(INTERVAL_LISTS, REGION, st.integers(0, REGION_SIZE), st.integers(0, REGION_SIZE))
def test_a_window_is_a_slice_of_the_sorted_members(
    pairs: list[tuple[int, int]], region: tuple[Family, int], index: int, count: int
) -> None:
    ordered = sorted(values_of(pairs, region[1]))

    window = set_of(pairs, region).window(index, count)

    assert sorted(members(window)) == ordered[index : index + count]


@settings(max_examples=150, deadline=None)
@given(INTERVAL_LISTS, REGION, st.integers(1, REGION_SIZE + 2))
def test_a_split_gives_parts_of_nearly_equal_size_that_add_up_to_the_set(
    pairs: list[tuple[int, int]], region: tuple[Family, int], parts: int
) -> None:
    addresses = set_of(pairs, region)

    pieces = addresses.split(parts)

    assert len(pieces) == min(parts, addresses.size)
    joined = [value for piece in pieces for value in sorted(members(piece))]
    assert joined == sorted(members(addresses))
    if pieces:
        sizes = [piece.size for piece in pieces]
        assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1


@settings(max_examples=150, deadline=None)
@given(INTERVAL_LISTS, REGION, st.integers(1, 10))
def test_covering_intervals_cover_a_set_and_equal_it_if_it_has_few_intervals(
    pairs: list[tuple[int, int]], region: tuple[Family, int], count: int
) -> None:
    addresses = set_of(pairs, region)

    intervals = addresses.covering_intervals(count)

    assert len(intervals) <= count
    assert addresses.issubset(AddressSet.from_intervals(intervals, addresses.family))
    assert {bound for interval in intervals for bound in interval} <= {
        bound for pair in addresses for bound in pair
    }
    if len(addresses.intervals) <= count:
        assert intervals == list(addresses)


@given(INTERVAL_LISTS, REGION)
def test_the_items_of_a_set_read_back_as_the_same_set(
    pairs: list[tuple[int, int]], region: tuple[Family, int]
) -> None:
    addresses = set_of(pairs, region)

    parsed = AddressSet.from_items(reversed(addresses.to_items()), region[0])

    assert parsed == addresses
    assert hash(parsed) == hash(addresses)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, REGION_SIZE - 1), max_size=12), FAMILIES)
def test_a_set_made_of_values_has_exactly_these_members(values: list[int], family: Family) -> None:
    assert members(AddressSet.from_values(values, family)) == set(values)


def test_items_are_deduplicated_sorted_and_joined() -> None:
    merged_set = v4("10.0.0.9", "10.0.0.3-10.0.0.5", "10.0.0.1", "10.0.0.2", "10.0.0.4-10.0.0.6")

    assert merged_set.to_items() == ["10.0.0.1-10.0.0.6", "10.0.0.9"]
    assert v6("fd00:0::2", "FD00::1").to_items() == ["fd00::1-fd00::2"]
    assert v4("::ffff:10.0.0.1", "10.0.0.2").to_items() == ["10.0.0.1-10.0.0.2"]


def test_reversed_items_and_items_of_the_other_family_are_refused() -> None:
    with pytest.raises(AddressSyntaxError) as other_family:
        v4("10.0.0.1", "fd00::1")
    with pytest.raises(AddressSyntaxError) as reversed_item:
        v6("fd00::9-fd00::1")

    assert (other_family.value.text, other_family.value.fault) == (
        "fd00::1",
        SyntaxFault.WRONG_FAMILY,
    )
    assert reversed_item.value.fault == SyntaxFault.REVERSED


@pytest.mark.parametrize("pair", [(5, 4), (-1, 4), (0, 2**32)])
def test_intervals_outside_the_address_space_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not an interval of IPv4 addresses"):
        AddressSet.from_intervals([pair], V4)


def test_all_of_ipv6_is_one_interval_with_an_exact_size() -> None:
    everything = AddressSet.from_cidr(parse_cidr("::/0"))

    assert everything.size == 2**128
    assert everything.clamped_size == 2**63 - 1
    assert everything.nth(2**128 - 1) == 2**128 - 1
    assert everything.rank(2**127) == 2**127
    assert everything.to_items() == ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    assert [piece.size for piece in everything.split(4)] == [2**126] * 4
    holes = AddressSet.from_values([0, 2**64, 2**128 - 1], V6)
    set_with_holes = everything - holes
    assert set_with_holes.size == 2**128 - 3
    assert set_with_holes.nth(2**64 - 1) == 2**64 + 1
    assert len(set_with_holes.intervals) == 2
    assert everything - set_with_holes == holes


def test_the_ends_of_ipv4_can_be_taken_away_and_put_back() -> None:
    everything = AddressSet.from_cidr(parse_cidr("0.0.0.0/0"))
    ends = v4("0.0.0.0", "255.255.255.255")

    assert everything.size == 2**32
    assert (everything - ends).to_items() == ["0.0.0.1-255.255.255.254"]
    assert (everything - ends) | ends == everything
    assert not everything - everything
    assert everything.rank(2**32 - 1) == 2**32 - 1


def test_excluding_a_few_addresses_of_a_huge_pool_leaves_few_intervals() -> None:
    pool = AddressSet.from_cidr(parse_cidr("10.0.0.0/10"))
    excluded_ips = v4("10.0.0.0", "10.20.0.0-10.20.0.255", "10.63.255.255", "192.168.0.1")

    usable_ips = pool - excluded_ips

    assert usable_ips.to_items() == ["10.0.0.1-10.19.255.255", "10.20.1.0-10.63.255.254"]
    assert usable_ips.size == 2**22 - 258
    assert usable_ips.issubset(pool)
    assert not pool.issubset(usable_ips)
    assert usable_ips.isdisjoint(excluded_ips)


def test_sets_of_20_000_intervals_are_combined() -> None:
    evens = AddressSet.from_values(range(0, 40_000, 2), V4)
    odds = AddressSet.from_values(range(1, 40_000, 2), V4)

    assert (evens | odds).intervals == ((0, 39_999),)
    assert evens - odds == evens
    assert not evens & odds
    assert ((evens | odds) - odds) == evens


def test_sets_of_different_families_cannot_be_combined() -> None:
    four, six = v4("10.0.0.1"), v6("fd00::1")

    assert AddressSet(V4) != AddressSet(V6)
    with pytest.raises(ValueError, match="cannot combine"):
        four | six
    with pytest.raises(ValueError, match="cannot combine"):
        four - six
    with pytest.raises(ValueError, match="cannot combine"):
        four & six
    with pytest.raises(ValueError, match="cannot combine"):
        four.isdisjoint(six)
    with pytest.raises(ValueError, match="cannot combine"):
        four.issubset(six)


def test_an_empty_set_has_no_members_and_no_parts() -> None:
    empty = AddressSet(V4)

    assert not empty
    assert (empty.size, empty.to_items(), empty.split(3)) == (0, [], [])
    assert empty.rank(5) == 0
    assert 5 not in empty
    assert empty | v4("0.0.0.5") == v4("0.0.0.5")
    assert empty - v4("0.0.0.5") == empty
    for call in (empty.first, empty.last, lambda: empty.nth(0)):
        with pytest.raises(IndexError):
            call()


def test_invalid_indexes_and_counts_are_refused() -> None:
    addresses = v4("10.0.0.1-10.0.0.4")

    with pytest.raises(IndexError, match="no member 4 in a set of 4 addresses"):
        addresses.nth(4)
    with pytest.raises(IndexError):
        addresses.nth(-1)
    with pytest.raises(ValueError, match="negative index or count"):
        addresses.window(-1, 2)
    with pytest.raises(ValueError, match="negative index or count"):
        addresses.window(0, -1)
    with pytest.raises(ValueError, match="cannot split"):
        addresses.split(0)


def test_a_set_equals_only_a_set_of_the_same_addresses() -> None:
    assert AddressSet(V4) != ()
    assert {v4("10.0.0.1"), v4("10.0.0.1-10.0.0.1")} == {v4("10.0.0.1")}


def test_the_repr_of_a_set_has_its_first_items_and_its_size() -> None:
    evens = AddressSet.from_values(range(0, 2000, 2), V4)

    assert repr(v4("10.0.0.1-10.0.0.4", "10.0.0.9")) == (
        "<AddressSet IPv4 [10.0.0.1-10.0.0.4, 10.0.0.9] of 5>"
    )
    assert repr(evens).endswith("0.0.0.10, ... 994 more] of 1000>")


def hosts_of(network: str) -> Iterator[int]:
    return (int(host) for host in ipaddress.ip_network(network))


def test_the_addresses_of_a_prefix_are_those_of_the_standard_library() -> None:
    addresses = AddressSet.from_cidr(parse_cidr("fd00:7::ff00/120"))

    assert members(addresses) == set(hosts_of("fd00:7::ff00/120"))
    assert parse_address("fd00:7::ff80").value in addresses
    assert format_address(V6, addresses.nth(255)) == "fd00:7::ffff"
