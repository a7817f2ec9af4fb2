"""Times and failures as texts, for the queries of jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from workflows.api import workflow

FAULT_CHARS_MAX: Final = 500


def now_s() -> float:
    """The time of the present workflow task, Unix seconds."""
    return workflow.now().timestamp()


def utc(at_s: float) -> str:
    """A time as ISO 8601 text, to the second; "" for never (0)."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds") if at_s else ""


def words(error: BaseException) -> str:
    """The message of a failure with those of its causes."""
    messages, cause = [str(error)], error.__cause__
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    return ": ".join(messages)[:FAULT_CHARS_MAX]
