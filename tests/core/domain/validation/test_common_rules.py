"""The IP version of an object: spec.ipVersion, otherwise derived from its addresses. Message texts.

See docs/reference/admission.md, "SpiderIPPool" and "SpiderReservedIP".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import Family
from core.domain.validation.common_rules import (
    ObjectReference,
    counted,
    family_of_item,
    family_of_subnet,
    resolve_family,
)
from core.errors import Refused

SUBJECT = ObjectReference("SpiderIPPool", "blue")
SOURCE = "spec.subnet '10.0.0.0/33'"
"""The field that the error text names."""


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("10.7.0.0/16", 4),
        ("10.7.0.1/016", 4),
        ("::ffff:10.7.0.0/112", 4),
        ("fd00:7::/64", 6),
        ("FD00:7::1/0064", 6),
        ("10.7.0.0", None),
        ("10.7.0.0/33", None),
        ("fe80::%eth0/64", None),
        ("", None),
    ],
)
def test_the_ip_version_is_derived_from_a_valid_subnet_in_any_spelling(
    text: str, family: Family | None
) -> None:
    assert family_of_subnet(text) == family


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("10.7.0.1", 4),
        ("::ffff:10.7.0.1-10.7.0.9", 4),
        ("fd00::1-fd00::2", 6),
        ("10.7.0.1-fd00::1", None),
        ("10.7.0.0/24", None),
    ],
)
def test_the_ip_version_is_derived_from_an_item_of_ips(text: str, family: Family | None) -> None:
    assert family_of_item(text) == family


def test_spec_ip_version_takes_precedence_over_the_derived_version() -> None:
    assert resolve_family(ip_version=6, derived=4, subject=SUBJECT, source=SOURCE) == 6
    assert resolve_family(ip_version=4, derived=None, subject=SUBJECT, source=SOURCE) == 4
    assert resolve_family(ip_version=None, derived=6, subject=SUBJECT, source=SOURCE) == 6


@pytest.mark.parametrize(
    ("ip_version", "kind"), [(None, "Invalid"), (5, "NotSupported"), (0, "NotSupported")]
)
def test_a_missing_version_is_invalid_and_an_unknown_version_is_not_supported(
    ip_version: int | None, kind: str
) -> None:
    derived: Family | None = None if ip_version is None else 4

    with pytest.raises(Refused) as caught:
        resolve_family(ip_version=ip_version, derived=derived, subject=SUBJECT, source=SOURCE)

    (refusal,) = caught.value.refusals
    assert (refusal.kind, refusal.field) == (kind, "spec.ipVersion")
    assert refusal.subject == "SpiderIPPool/blue"
    if ip_version is None:
        assert refusal.message.endswith(SOURCE)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (4_000, "4,000 entries")],
)
def test_only_the_number_1_has_a_singular_noun(number: int, text: str) -> None:
    assert counted(number, "entry", "entries") == text


def test_a_plural_that_is_not_given_ends_with_s() -> None:
    assert (counted(1, "pool"), counted(2, "pool")) == ("1 pool", "2 pools")
