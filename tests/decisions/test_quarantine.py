"""Addresses that strangers use are set aside, once, by their canonical text."""

from __future__ import annotations

import pytest

from core.domain.addresses import V4, V6
from core.domain.commands import Command, LiftQuarantine, QuarantineAddress
from core.domain.decisions import decide
from core.domain.events import AddressQuarantined, QuarantineLifted
from core.domain.model import Quarantine
from tests.decisions.samples import EMPTY, causes

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
        (LiftQuarantine("fe80::1%eth0"), [("Invalid", "address")]),
        (LiftQuarantine("fd00:7::9", "x" * 1025), [("Invalid", "reason")]),
        (LiftQuarantine("10.7.0.9"), [("NotFound", "")]),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(command: Command, expected: list[tuple[str, str]]) -> None:
    assert causes(CONFIGURATION, command) == expected
