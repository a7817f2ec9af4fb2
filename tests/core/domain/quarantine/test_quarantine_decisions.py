"""Users quarantine addresses and lift quarantines. So do agents that detect a conflicting host."""

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
from tests.core.domain.configuration.samples import EMPTY_CONFIGURATION, kinds_and_fields

USER_QUARANTINE = Quarantine(
    "fd00:7::9", V6, reason="answered a probe", evidence="02:00:00:00:00:01 on node-1"
)
CONFIGURATION = EMPTY_CONFIGURATION._replace(quarantine={USER_QUARANTINE.address: USER_QUARANTINE})


def test_a_quarantine_has_the_canonical_text_of_the_address() -> None:
    command = QuarantineAddress(
        "FD00:7:0::9", reason=USER_QUARANTINE.reason, evidence=USER_QUARANTINE.evidence
    )

    assert decide(EMPTY_CONFIGURATION, command, claimed={}) == (
        AddressQuarantined(USER_QUARANTINE),
    )


def test_an_ipv4_mapped_address_is_quarantined_as_ipv4() -> None:
    (event,) = decide(
        EMPTY_CONFIGURATION, QuarantineAddress("::ffff:10.7.0.9", reason="conflict"), claimed={}
    )

    assert event == AddressQuarantined(Quarantine("10.7.0.9", V4, reason="conflict"))


def test_a_quarantined_address_is_not_quarantined_again() -> None:
    assert (
        decide(
            CONFIGURATION, QuarantineAddress("fd00:7:0::9", reason="another conflict"), claimed={}
        )
        == ()
    )


def test_a_quarantine_is_lifted_by_any_spelling_of_the_address() -> None:
    events = decide(CONFIGURATION, LiftQuarantine("fd00:7:0::9", "conflict ended"), claimed={})

    assert events == (QuarantineLifted("fd00:7::9", "conflict ended"),)


HOST = ConflictingHost(
    mac="02:00:00:00:00:09",
    seen_by="agent/n1",
    node="n1",
    interface="eth1",
    seen_ms=1_767_268_800_000,
)
DETECTOR_QUARANTINE = USER_QUARANTINE._replace(conflicting_host=HOST)
WITH_QUARANTINE_BY_DETECTOR = EMPTY_CONFIGURATION._replace(
    quarantine={USER_QUARANTINE.address: DETECTOR_QUARANTINE}
)


def test_the_first_observation_of_a_conflicting_host_is_kept() -> None:
    command = QuarantineAddress(
        USER_QUARANTINE.address,
        reason=USER_QUARANTINE.reason,
        evidence=USER_QUARANTINE.evidence,
        conflicting_host=HOST,
    )

    assert decide(EMPTY_CONFIGURATION, command, claimed={}) == (
        AddressQuarantined(DETECTOR_QUARANTINE),
    )
    assert (
        decide(
            WITH_QUARANTINE_BY_DETECTOR,
            command._replace(conflicting_host=HOST._replace(node="n2")),
            claimed={},
        )
        == ()
    )


def test_a_quarantine_by_a_user_replaces_a_quarantine_by_a_detector() -> None:
    command = QuarantineAddress(USER_QUARANTINE.address, reason="keep it away")

    assert decide(WITH_QUARANTINE_BY_DETECTOR, command, claimed={}) == (
        AddressQuarantined(Quarantine(USER_QUARANTINE.address, V6, reason="keep it away")),
    )
    assert decide(CONFIGURATION, command._replace(conflicting_host=HOST), claimed={}) == ()


def test_the_command_return_address_lifts_a_quarantine_only_for_the_same_conflicting_host() -> None:
    command = ReturnAddress(USER_QUARANTINE.address, HOST, "silent 3 times")

    assert decide(WITH_QUARANTINE_BY_DETECTOR, command, claimed={}) == (
        QuarantineLifted(USER_QUARANTINE.address, "silent 3 times"),
    )
    assert (
        decide(
            WITH_QUARANTINE_BY_DETECTOR,
            command._replace(conflicting_host=HOST._replace(seen_ms=1)),
            claimed={},
        )
        == ()
    )
    assert decide(CONFIGURATION, command, claimed={}) == (), (
        "the command lifted a quarantine by a user"
    )
    assert decide(EMPTY_CONFIGURATION, command, claimed={}) == ()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (QuarantineAddress("10.7.0.0/24", reason="conflict"), [("Invalid", "address")]),
        (QuarantineAddress("10.7.0.1-10.7.0.2", reason="conflict"), [("Invalid", "address")]),
        (QuarantineAddress("10.7.0.1", reason=""), [("Required", "reason")]),
        (QuarantineAddress("10.7.0.1", reason="x" * 1025), [("Invalid", "reason")]),
        (QuarantineAddress("x", reason="", evidence="é" * 513), [
            ("Invalid", "address"), ("Required", "reason"), ("Invalid", "evidence"),
        ]),
        (
            QuarantineAddress(
                "10.7.0.1",
                reason="conflict",
                conflicting_host=HOST._replace(mac="x" * 1025, seen_ms=-1),
            ),
            [("Invalid", "mac"), ("Invalid", "seen_ms")],
        ),
        (ReturnAddress("not-an-address", HOST), [("Invalid", "address")]),
        (LiftQuarantine("fe80::1%eth0"), [("Invalid", "address")]),
        (LiftQuarantine("fd00:7::9", "x" * 1025), [("Invalid", "reason")]),
        (LiftQuarantine("10.7.0.9"), [("NotFound", "")]),
    ],
)  # fmt: skip
def test_an_invalid_quarantine_command_is_refused(
    command: Command, expected: list[tuple[str, str]]
) -> None:
    assert kinds_and_fields(CONFIGURATION, command) == expected
