"""The mutating webhook merges ranges, sets labels, and keeps lists with an invalid item.

See docs/reference/admission.md, "SpiderIPPool".
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.model import Pool, Reservation
from core.domain.validation.normalization import (
    CIDR_LABEL,
    merge_items,
    normalise_network,
    normalise_reservation,
)

ADDRESSES = st.integers(0, 40).map("10.7.0.{}".format)
ITEMS = ADDRESSES | st.tuples(ADDRESSES, ADDRESSES).map("-".join)


@pytest.mark.parametrize(
    ("subnet", "family", "label"),
    [("10.7.0.0/16", V4, "10-7-0-0-16"), ("fd00:7::/64", V6, "fd00-7---64")],
)
def test_a_pool_is_labelled_with_its_subnet(subnet: str, family: Family, label: str) -> None:
    pool = normalise_network(Pool("blue", family, subnet, labels={"team": "net"}))

    assert pool.labels == {"team": "net", CIDR_LABEL: label}


def test_a_wrong_label_is_replaced_and_the_original_labels_are_not_changed() -> None:
    labels = {CIDR_LABEL: "forged"}
    pool = normalise_network(Pool("blue", V4, "10.7.0.0/16", labels=labels))

    assert pool.labels == {CIDR_LABEL: "10-7-0-0-16"}
    assert labels == {CIDR_LABEL: "forged"}


# The items as written, and the merged items.
MERGES = {
    "an empty list": ((), ()),
    "one item stays as written": (("::ffff:10.7.0.9",), ("::ffff:10.7.0.9",)),
    "one range of one address": (("10.7.0.9-10.7.0.9",), ("10.7.0.9-10.7.0.9",)),
    "one address twice": (("10.7.0.9", "10.7.0.9"), ("10.7.0.9",)),
    "adjacent addresses": (("10.7.0.10", "10.7.0.9"), ("10.7.0.9-10.7.0.10",)),
    "an IPv4-mapped address": (("::ffff:10.7.0.9", "10.7.0.3"), ("10.7.0.3", "10.7.0.9")),
    "a reversed range prevents merging": (("10.7.0.9-10.7.0.1", "10.7.0.1"),) * 2,
    "an item of the other family prevents merging": (("10.7.0.9", "fd00::1", "10.7.0.9"),) * 2,
    "the ends of the address space": (
        ("255.255.255.255", "0.0.0.0-255.255.255.254"),
        ("0.0.0.0-255.255.255.255",),
    ),
}


@pytest.mark.parametrize(("items", "merged"), MERGES.values(), ids=MERGES.keys())
def test_lists_are_merged_unless_an_item_is_invalid(
    items: tuple[str, ...], merged: tuple[str, ...]
) -> None:
    pool = normalise_network(Pool("blue", V4, "10.7.0.0/16", items, exclude_ips=items))
    reservation = normalise_reservation(Reservation("kept", V4, items))

    assert (pool.ips, pool.exclude_ips, reservation.ips) == (merged, merged, merged)


@given(st.lists(ADDRESSES, max_size=8).map(tuple))
def test_merging_keeps_the_addresses_and_is_idempotent(items: tuple[str, ...]) -> None:
    merged = merge_items(items, V4)

    assert AddressSet.from_items(merged, V4) == AddressSet.from_items(items, V4)
    assert merge_items(merged, V4) == merged


@given(st.lists(ITEMS | st.text(max_size=5), max_size=5).map(tuple))
def test_normalisation_never_refuses_an_object(items: tuple[str, ...]) -> None:
    normalised = normalise_network(Pool("blue", V4, "x", items))

    assert normalise_network(normalised) == normalised
