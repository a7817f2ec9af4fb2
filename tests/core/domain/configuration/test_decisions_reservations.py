"""SpiderReservedIP (docs/reference/admission.md, "SpiderReservedIP")."""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyReservation, DeleteReservation
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import ReservationDefined, ReservationDeleted
from core.domain.model import Reservation
from tests.core.domain.configuration.samples import EMPTY, causes, refusals, reservation, stored

KEPT = reservation("10.7.0.1-10.7.0.9")
CONFIGURATION = stored(EMPTY, ApplyReservation(KEPT))


def test_a_reservation_is_defined_with_its_list_merged() -> None:
    wanted = reservation("10.7.0.3", "10.7.0.1", "10.7.0.2-10.7.0.4")

    assert decide(EMPTY, ApplyReservation(wanted), {}) == (
        ReservationDefined(reservation("10.7.0.1-10.7.0.4")),
    )


ACCEPTED = {
    "nothing": reservation(),
    "one address as written": reservation("::ffff:10.7.0.1"),
    "all of IPv6": Reservation("kept", V6, ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",)),
    "what another one has": reservation("10.7.0.1-10.7.0.9", name="other"),
}


@pytest.mark.parametrize("wanted", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_spec_allows_is_accepted(wanted: Reservation) -> None:
    assert refusals(CONFIGURATION if wanted.family == V4 else EMPTY, ApplyReservation(wanted)) == ()


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


@pytest.mark.parametrize(("wanted", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_spec_forbids_is_refused(
    wanted: Reservation, expected: list[tuple[str, str]]
) -> None:
    assert causes(EMPTY, ApplyReservation(wanted)) == expected


def test_a_disabled_family_is_refused() -> None:
    configuration = EMPTY._replace(ipv4_enabled=False)

    assert causes(configuration, ApplyReservation(KEPT)) == [("Forbidden", "spec.ipVersion")]


def test_the_ip_version_cannot_be_changed() -> None:
    wanted = Reservation("kept", V6, ("x",))

    assert causes(CONFIGURATION, ApplyReservation(wanted)) == [("Forbidden", "spec.ipVersion")]


def test_applying_an_unchanged_reservation_is_no_event() -> None:
    pieces = reservation("10.7.0.5-10.7.0.9", "10.7.0.1-10.7.0.4")

    assert decide(CONFIGURATION, ApplyReservation(KEPT), {}) == ()
    assert decide(CONFIGURATION, ApplyReservation(pieces), {}) == ()


def test_a_changed_reservation_is_defined_again_and_removes_no_address_from_a_pool() -> None:
    command = ApplyReservation(reservation("10.7.0.2"))

    assert decide(CONFIGURATION, command, {}) == (ReservationDefined(reservation("10.7.0.2")),)
    assert removed_addresses(CONFIGURATION, command) is None


def test_a_reservation_is_deleted_by_name_and_an_unknown_one_is_not_found() -> None:
    command = DeleteReservation("kept")

    assert decide(CONFIGURATION, command, {}) == (ReservationDeleted("kept"),)
    assert causes(EMPTY, command) == [("NotFound", "")]
