"""The log's clock: the time at a position of the log, from the clocks of all writers.

The order of the log is that of revisions, never of clocks. For a state at a time, the log's clock
is the highest stamp so far, limited to the time at which the event was read: an event cannot have
been recorded after it was sealed. So a clock that is ahead affects the log's clock only until the
next seal, and a clock that is behind never does. Pure.
"""

from __future__ import annotations

from core.domain.events import Recorded


def ticked(clock_ms: int, recorded: Recorded, read_at_ms: int) -> int:
    """The log's clock after this event. ``read_at_ms``: the time of its seal, or now."""
    stamp = recorded.recorded_at_ms
    if stamp <= clock_ms:
        return clock_ms
    return max(clock_ms, min(stamp, read_at_ms))
