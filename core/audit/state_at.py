"""Reads the state at a position or a time.

A time is compared with the log's clock: the highest timestamp of the events so far. The state at a
time is the state before the first event that moves the clock past the time.
"""

from __future__ import annotations

from core.archive.replay import LogView, advance_clock
from core.domain.evolution import Ledger
from core.errors import BadInput


async def as_of_position(view: LogView, position: int) -> Ledger:
    """The state after every event up to a position.

    Raises LogCorrupt, LogGap, Compacted. Raises BadInput if the log has not reached the position,
    or if the state at the position was pruned.
    """
    _require_not_pruned(view, position)
    if not 0 <= position <= view.revision:
        raise BadInput(
            f"the log has no position {position}; it has reached {view.revision}",
            subject="position",
            remedy=f"name a position from 0 to {view.revision}",
        )
    ledger = view.sealed.snapshot_up_to(position).ledger
    async for events in view.events(ledger.position, position):
        ledger.apply_all(events)
    return ledger


async def as_of_time(view: LogView, time_ms: int) -> Ledger:
    """The state when the log's clock was at ``time_ms`` (Unix milliseconds).

    Raises LogCorrupt, LogGap, Compacted, and BadInput if the state was pruned.
    """
    snapshot = view.sealed.snapshot_at_time(time_ms)
    if snapshot.clock_ms > time_ms:
        # Every snapshot is newer. If files were pruned, this raises; else the ledger is empty.
        _require_not_pruned(view, position=-1)
    ledger, clock_ms = snapshot.ledger, snapshot.clock_ms
    async for batch in view.batches(ledger.position):
        for segment in batch.segments:
            for recorded in segment.events():
                clock_ms = advance_clock(clock_ms, recorded, batch.read_at_ms)
                if clock_ms > time_ms:
                    return ledger
                ledger.apply(recorded)
    return ledger


def _require_not_pruned(view: LogView, position: int) -> None:
    pruned = view.sealed.cursor.pruned
    if pruned.files and position < pruned.position:
        raise BadInput(
            f"the archive was pruned: no state before position {pruned.position} is known",
            subject="position",
            remedy=f"ask for position {pruned.position} or a later one, or read a copy of the"
            " archive from before the pruning",
        )
