"""Prints what ADDs of the past got, for ``orbctl explain``."""

from __future__ import annotations

from typing import Any

from core.domain.claims.refused_adds import at_length
from core.domain.events import AllocationRefused, PoolVerdict, Recorded
from core.domain.selection.explanation import SOURCE_WORDS, describe_verdicts
from ops.cli.formats import Output
from ops.cli.output import age, moment, show_value


def show_refusal(recorded: Recorded, output: Output, now_ms: int) -> None:
    """Print a refused ADD: its error, and what became of each pool."""
    event = recorded.event
    assert isinstance(event, AllocationRefused)
    if output.is_plain:
        show_value(plain_refusal(recorded), output)
        return
    print(f"Pod {event.namespace}/{event.name}")
    print(f"an ADD failed: {event.message}")
    if event.remedy and "orbctl explain" not in event.remedy:
        print(f"  → {event.remedy}")
    print_verdicts(event.verdicts, event.left_out)
    if event.source:
        print(f"IPPools came from {SOURCE_WORDS.get(event.source, event.source)}")
    at = f"{moment(recorded.recorded_at_ms)} ({age(now_ms - recorded.recorded_at_ms)} ago)"
    print(f"refused at {at}: NIC {event.interface} on {event.node}")


def print_verdicts(verdicts: tuple[PoolVerdict, ...], left_out: int = 0) -> None:
    """Print one line for each verdict."""
    for line in describe_verdicts(map(at_length, verdicts)):
        print(line)
    if left_out:
        print(f"  ... and {left_out} more")


def plain_refusal(recorded: Recorded) -> dict[str, Any]:
    """A refused ADD for programs; the names are those of ``explain`` where it has them."""
    event = recorded.event
    assert isinstance(event, AllocationRefused)
    return {
        "pod": f"{event.namespace}/{event.name}",
        "served": False,
        "refusedAt": moment(recorded.recorded_at_ms),
        "position": recorded.position,
        "node": event.node,
        "interface": event.interface,
        "reason": event.reason,
        "times": event.times,
        "source": event.source or None,
        "verdicts": [plain_pool_verdict(verdict) for verdict in event.verdicts],
        "verdictsLeftOut": event.left_out,
        "error": event.message,
        "remedy": event.remedy,
    }


def plain_pool_verdict(verdict: PoolVerdict) -> dict[str, Any]:
    """A verdict for programs, without empty fields."""
    return {name: value for name, value in verdict._asdict().items() if value != ""}
