"""Formats the outcome of a run as a table for people and as one JSON line for programs."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from tests.chaos.fault_run import Outcome

VIOLATIONS_SHOWN_MAX: Final = 40


def table_lines(outcome: Outcome) -> Iterator[str]:
    options = outcome.options
    yield (
        f"chaos: seed {options.seed}, {options.minutes:g} minutes, {options.agents} agents,"
        f" {options.controllers} controllers, {options.members} etcd"
    )
    yield from _section("operations", outcome.counts)
    yield from _section("faults", outcome.faults)
    yield from _section("garbage", outcome.garbage)
    yield from _section("processes that ended by themselves", outcome.exits)
    yield from _section("tracebacks in logs", outcome.tracebacks)
    yield from _section("recoveries", {"counted": len(outcome.recoveries)})
    for name, seconds in _times(outcome.recoveries).items():
        yield f"  {name:34} {seconds:8.2f} s"
    yield from _section("log", {"events checked": outcome.events})
    yield from _section("violations", Counter(violation.rule for violation in outcome.violations))
    for violation in outcome.violations[:VIOLATIONS_SHOWN_MAX]:
        yield f"    {violation}"


def json_line(outcome: Outcome) -> str:
    return json.dumps(
        {
            **outcome.options._asdict(),
            "operations": sum(outcome.counts.values()),
            "faults": sum(outcome.faults.values()),
            "recoveries": len(outcome.recoveries),
            **{
                f"recovery_{name}_s": round(seconds, 2)
                for name, seconds in _times(outcome.recoveries).items()
            },
            "exits": sum(outcome.exits.values()),
            "tracebacks": sum(outcome.tracebacks.values()),
            "events": outcome.events,
            "violations": len(outcome.violations),
        }
    )


def _times(recoveries: list[float]) -> dict[str, float]:
    if not recoveries:
        return {}
    return {"median": statistics.median(recoveries), "slowest": max(recoveries)}


def _section(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield f"{title}: {sum(counts.values())}"
    for name, count in sorted(counts.items()):
        yield f"  {name:34} {count:8}"
