"""Checks all events of a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.domain.events import Recorded
from core.domain.log_checker import Checker, Violation


def log_violations(events: Iterable[Recorded]) -> Iterator[Violation]:
    """All violations of invariants in a log, in the order of its events."""
    checker = Checker()
    for recorded in events:
        yield from checker.check(recorded)
