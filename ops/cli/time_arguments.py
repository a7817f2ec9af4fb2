"""Parses times and durations of a command line. Pure.

A time is ``2026-03-01T14:03:00Z``, ``2026-03-01 14:03``, ``2026-03-01``, ``14:03`` (today) or
``15m`` (15 minutes ago). Without a zone, a time is in UTC. A duration is ``90s``, ``15m``, ``2h``,
``3d`` or ``1w``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from core.audit.log_clock import moment_of, unix_ms_of
from core.errors import BadInput

_AGO: Final = re.compile(r"(\d+)\s*(s|m|h|d|w)(?:\s+ago)?\Z")
_DURATION: Final = re.compile(r"(\d{1,6})(s|m|h|d|w)\Z")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?\Z")


def parse_time(text: str, now_ms: int) -> int:
    """Parse a time to Unix milliseconds. Raises BadInput."""
    try:
        return unix_ms_of(_parse_moment(text.strip(), now_ms))
    except ValueError:
        raise BadInput(
            f"{text[:64]!r} is not a time",
            subject="time",
            remedy="write 2026-03-01T14:03:00Z, 14:03 or 15m (ago)",
        ) from None
    except OverflowError:
        raise BadInput(
            f"{text[:64]!r} is not in the years 1 to 9999",
            subject="time",
            remedy="write a time in these years, such as 2026-03-01T14:03:00Z",
        ) from None


def _parse_moment(text: str, now_ms: int) -> datetime:
    """Raises ValueError for a text that is not a time, OverflowError for a time out of range."""
    ago = _AGO.match(text)
    if ago:
        return moment_of(now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    if _CLOCK.match(text):
        today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
        width = len("00:00") if len(text) <= len("00:00") else len("00:00:00")
        # fromisoformat needs an hour of two digits.
        text = f"{today}T{text:0>{width}}"
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def parse_duration(text: str) -> float:
    """Parse a duration to seconds; 0 for "". Raises BadInput."""
    if not text:
        return 0.0
    match = _DURATION.match(text.strip())
    if match is None:
        raise BadInput(
            f"{text[:64]!r} is not a duration", subject="time", remedy="write 90s, 15m, 2h or 3d"
        )
    return int(match[1]) * _UNIT_MS[match[2]] / 1000
