"""Rules of a SpiderReservedIP (docs/reference/admission.md, "SpiderReservedIP")."""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyReservation, DeleteReservation
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import ReservationDefined, ReservationDeleted
from core.domain.model import Reservation
from tests.core.domain.configuration.samples import (
    EMPTY_CONFIGURATION,
    after_command,
    kinds_and_fields,
    refusals,
    reservation,
)

RESERVATION = reservation("10.7.0.1-10.7.0.9")
CONFIGURATION = after_command(EMPTY_CONFIGURATION, ApplyReservation(RESERVATION))


def test_the_items_of_a_new_reservation_are_merged() -> None:
    desired = reservation("10.7.0.3", "10.7.0.1", "10.7.0.2-10.7.0.4")

    assert decide(EMPTY_CONFIGURATION, ApplyReservation(desired), claimed={}) == (
        ReservationDefined(reservation("10.7.0.1-10.7.0.4")),
    )


ACCEPTED = {
    "no addresses": reservation(),
    "an IPv4-mapped address": reservation("::ffff:10.7.0.1"),
    "all of IPv6": Reservation("kept", V6, ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",)),
    "addresses of another reservation": reservation("10.7.0.1-10.7.0.9", name="other"),
}


@pytest.mark.parametrize("desired", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_valid_reservation_is_accepted(desired: Reservation) -> None:
    # The IPv4 reservation in CONFIGURATION cannot become IPv6.
    configuration = CONFIGURATION if desired.family == V4 else EMPTY_CONFIGURATION

    assert refusals(configuration, ApplyReservation(desired)) == ()


REFUSED = {
    "a CIDR": (reservation("10.7.0.0/24"), [("Invalid", "spec.ips[0]")]),
    "a reversed range": (reservation("10.7.0.9-10.7.0.1"), [("Invalid", "spec.ips[0]")]),
    "the other family": (reservation("fd00::1"), [("Invalid", "spec.ips[0]")]),
    "two bad items": (
        reservation("10.7.0.1", "x", "10.7.0.2", "fd00::1"),
        [("Invalid", "spec.ips[1]"), ("Invalid", "spec.ips[3]")],
    ),
    "a bad name": (reservation(name="Kept!"), [("Invalid", "metadata.name")]),
    "too many bytes": (reservation("x" * 400_000), [("Invalid", "")]),
}


@pytest.mark.parametrize(("desired", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_reservation_is_refused(
    desired: Reservation, expected: list[tuple[str, str]]
) -> None:
    assert kinds_and_fields(EMPTY_CONFIGURATION, ApplyReservation(desired)) == expected


def test_a_reservation_of_a_disabled_family_is_refused() -> None:
    configuration = EMPTY_CONFIGURATION._replace(ipv4_enabled=False)

    assert kinds_and_fields(configuration, ApplyReservation(RESERVATION)) == [
        ("Forbidden", "spec.ipVersion")
    ]


def test_the_ip_version_cannot_be_changed() -> None:
    desired = Reservation("kept", V6, ("x",))

    assert kinds_and_fields(CONFIGURATION, ApplyReservation(desired)) == [
        ("Forbidden", "spec.ipVersion")
    ]


def test_applying_an_unchanged_reservation_writes_no_event() -> None:
    split_range = reservation("10.7.0.5-10.7.0.9", "10.7.0.1-10.7.0.4")

    assert decide(CONFIGURATION, ApplyReservation(RESERVATION), claimed={}) == ()
    assert decide(CONFIGURATION, ApplyReservation(split_range), claimed={}) == ()


def test_a_changed_reservation_is_written_and_removes_no_address_from_a_pool() -> None:
    command = ApplyReservation(reservation("10.7.0.2"))

    assert decide(CONFIGURATION, command, claimed={}) == (
        ReservationDefined(reservation("10.7.0.2")),
    )
    assert removed_addresses(CONFIGURATION, command) is None


def test_only_an_existing_reservation_can_be_deleted() -> None:
    command = DeleteReservation("kept")

    assert decide(CONFIGURATION, command, claimed={}) == (ReservationDeleted("kept"),)
    assert kinds_and_fields(EMPTY_CONFIGURATION, command) == [("NotFound", "")]
