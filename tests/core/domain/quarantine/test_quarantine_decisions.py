"""Addresses that conflicting hosts use are quarantined, once, by their canonical text."""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import (
    Command,
    LiftQuarantine,
    QuarantineAddress,
    ReturnAddress,
)
from core.domain.configuration.decisions import decide
from core.domain.events import AddressQuarantined, QuarantineLifted
from core.domain.model import ConflictingHost, Quarantine
from tests.core.domain.configuration.samples import EMPTY, causes

SEEN = Quarantine("fd00:7::9", V6, "answered a probe", "02:00:00:00:00:01 on node-1")
CONFIGURATION = EMPTY._replace(quarantine={SEEN.address: SEEN})


def test_an_address_is_quarantined_by_its_canonical_text() -> None:
    command = QuarantineAddress("FD00:7:0::9", SEEN.reason, SEEN.evidence)

    assert decide(EMPTY, command, {}) == (AddressQuarantined(SEEN),)


def test_mapped_text_is_an_ipv4_address() -> None:
    (event,) = decide(EMPTY, QuarantineAddress("::ffff:10.7.0.9", "seen"), {})

    assert event == AddressQuarantined(Quarantine("10.7.0.9", V4, "seen"))


def test_a_quarantined_address_is_not_quarantined_again() -> None:
    assert decide(CONFIGURATION, QuarantineAddress("fd00:7:0::9", "seen again"), {}) == ()


def test_a_quarantine_is_lifted_by_any_spelling_of_the_address() -> None:
    lifted = decide(CONFIGURATION, LiftQuarantine("fd00:7:0::9", "gone"), {})

    assert lifted == (QuarantineLifted("fd00:7::9", "gone"),)


MET = ConflictingHost("02:00:00:00:00:09", "agent/n1", "n1", "eth1", 1_767_268_800_000)
ASIDE = SEEN._replace(conflicting_host=MET)
WITH_STRANGER = EMPTY._replace(quarantine={SEEN.address: ASIDE})


def test_the_first_observation_of_a_conflicting_host_is_kept() -> None:
    command = QuarantineAddress(SEEN.address, SEEN.reason, SEEN.evidence, MET)

    assert decide(EMPTY, command, {}) == (AddressQuarantined(ASIDE),)
    assert (
        decide(WITH_STRANGER, command._replace(conflicting_host=MET._replace(node="n2")), {}) == ()
    )


def test_a_quarantine_by_a_user_replaces_one_by_a_detector() -> None:
    by_hand = QuarantineAddress(SEEN.address, "keep it away")

    assert decide(WITH_STRANGER, by_hand, {}) == (
        AddressQuarantined(Quarantine(SEEN.address, V6, "keep it away")),
    )
    assert decide(CONFIGURATION, by_hand._replace(conflicting_host=MET), {}) == ()


def test_an_address_is_returned_only_for_the_same_conflicting_host() -> None:
    back = ReturnAddress(SEEN.address, MET, "silent 3 times")

    assert decide(WITH_STRANGER, back, {}) == (QuarantineLifted(SEEN.address, "silent 3 times"),)
    assert decide(WITH_STRANGER, back._replace(conflicting_host=MET._replace(seen_ms=1)), {}) == ()
    assert decide(CONFIGURATION, back, {}) == (), "set aside by hand"
    assert decide(EMPTY, back, {}) == ()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (QuarantineAddress("10.7.0.0/24", "seen"), [("Invalid", "address")]),
        (QuarantineAddress("10.7.0.1-10.7.0.2", "seen"), [("Invalid", "address")]),
        (QuarantineAddress("10.7.0.1", ""), [("Required", "reason")]),
        (QuarantineAddress("10.7.0.1", "x" * 1025), [("Invalid", "reason")]),
        (QuarantineAddress("x", "", "é" * 513), [
            ("Invalid", "address"), ("Required", "reason"), ("Invalid", "evidence"),
        ]),
        (QuarantineAddress("10.7.0.1", "seen", "", MET._replace(mac="x" * 1025, seen_ms=-1)), [
            ("Invalid", "mac"), ("Invalid", "seen_ms"),
        ]),
        (ReturnAddress("nowhere", MET), [("Invalid", "address")]),
        (LiftQuarantine("fe80::1%eth0"), [("Invalid", "address")]),
        (LiftQuarantine("fd00:7::9", "x" * 1025), [("Invalid", "reason")]),
        (LiftQuarantine("10.7.0.9"), [("NotFound", "")]),
    ],
)  # fmt: skip
def test_an_invalid_quarantine_command_is_refused(
    command: Command, expected: list[tuple[str, str]]
) -> None:
    assert causes(CONFIGURATION, command) == expected
