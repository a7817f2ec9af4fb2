"""The log's clock: what time it is at a position, although every writer has a clock of its own.

The order of the log is that of revisions and never of clocks. To ask for the state at a time, the
log's clock is the highest stamp so far, and a stamp counts at most as the time at which somebody
read it: an event cannot have been recorded after it was sealed. So a clock that runs ahead, even by
years, misleads only until the next seal, and a clock that runs behind misleads nobody. Pure.
"""

from __future__ import annotations

from core.domain.events import Recorded


def ticked(clock_ms: int, recorded: Recorded, read_at_ms: int) -> int:
    """The log's clock after this event. ``read_at_ms``: the time of its seal, or now."""
    stamp = recorded.recorded_at_ms
    if stamp <= clock_ms:
        return clock_ms
    return max(clock_ms, min(stamp, read_at_ms))
