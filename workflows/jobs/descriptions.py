"""How jobs tell times and failures in their answers to queries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from workflows.api import workflow

FAULT_CHARS_MAX: Final = 500


def now_s() -> float:
    """The time of the present workflow task, Unix seconds."""
    return workflow.now().timestamp()


def utc(at_s: float) -> str:
    """A time in words, to the second; "" for never (0)."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds") if at_s else ""


def words(error: BaseException) -> str:
    """The failure and what is behind it, down to the first cause."""
    said, cause = [str(error)], error.__cause__
    while cause is not None:
        said.append(str(cause))
        cause = cause.__cause__
    return ": ".join(said)[:FAULT_CHARS_MAX]
