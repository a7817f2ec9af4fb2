"""Faults beyond the limit are counted once each, as long as they exist."""

from __future__ import annotations

from core.errors import LogCorrupt
from core.eventstore.undecodable_values import FAULTS_MAX, Faults

ERROR = LogCorrupt("it cannot be decoded", remedy="delete it")


def full_registry() -> Faults:
    """A registry that names no more faults."""
    faults = Faults(logged=False)
    for number in range(FAULTS_MAX):
        faults.report("pool", f"pool/{number}", ERROR)
    return faults


def test_a_fault_beyond_the_limit_counts_once_if_reported_again() -> None:
    faults = full_registry()

    for _ in range(3):
        faults.report("claim", "ip/a", ERROR)
    faults.report("claim", "ip/b", ERROR)

    assert faults.by_kind() == {"pool": FAULTS_MAX, "unnamed": 2}


def test_a_repaired_fault_beyond_the_limit_no_longer_counts() -> None:
    faults = full_registry()
    for key in ("ip/a", "ip/b", "ip/c"):
        faults.report("claim", key, ERROR)

    faults.clear("ip/a")
    assert faults.by_kind()["unnamed"] == 2
    faults.clear_kinds("claim")
    assert faults.by_kind() == {"pool": FAULTS_MAX}


def test_an_unnamed_fault_is_named_when_another_is_repaired() -> None:
    faults = full_registry()
    faults.report("claim", "ip/a", ERROR)

    faults.clear("pool/0")
    faults.report("claim", "ip/a", ERROR)

    assert faults.by_kind() == {"pool": FAULTS_MAX - 1, "claim": 1}
