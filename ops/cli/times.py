"""Points of time as people type them.

``2026-03-01T14:03:00Z``, ``2026-03-01 14:03``, ``2026-03-01``, ``14:03`` (today), ``15m`` (ago). A
time without a zone is UTC, as all times that orbctl prints. Pure: the present is an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from core.errors import BadInput

_AGO: Final = re.compile(r"(\d+)\s*(s|m|h|d|w)(?:\s+ago)?\Z")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?\Z")


def parse_time(text: str, now_ms: int) -> int:
    """Unix milliseconds. Raises BadInput."""
    said = text.strip()
    ago = _AGO.match(said)
    if ago:
        return now_ms - int(ago[1]) * _UNIT_MS[ago[2]]
    if _CLOCK.match(said):
        today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
        said = f"{today}T{said:0>5}" if len(said) <= 5 else f"{today}T{said:0>8}"
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise BadInput(
            f"{text[:64]!r} is neither a position nor a time",
            subject="time",
            remedy="write 1234, 2026-03-01T14:03:00Z, 14:03 or 15m (ago)",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
