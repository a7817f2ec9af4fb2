"""Keeps the live log under its bound: seals it into the archive when it has grown long enough.

Only the leader does so; of two at once the archiver's own cursor lets one win. A full disk or an
etcd that is away is reported and tried again at the next round: until then the live log grows, and
nothing else suffers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.archive.archiver import Archiver, needs_sealing
from core.errors import Compacted, OutcomeUnknown, StoreUnavailable

CHECK_PERIOD_S: Final = 10.0

_log: Final = logging.getLogger(__name__)


class Archiving:
    """Counts are since the start; ``fault`` says what went wrong in the last round, if anything."""

    def __init__(self, archiver: Archiver, *, period_s: float = CHECK_PERIOD_S) -> None:
        self._archiver = archiver
        self._period_s = period_s
        self.live_segments = 0
        self.sealed_segments = 0
        self.failures = 0
        self.fault = ""

    async def run(self) -> None:
        """Look every period, until cancelled. Raises LogCorrupt, LogGap: a person is needed."""
        while True:
            await self.look()
            await asyncio.sleep(self._period_s)

    async def look(self) -> None:
        """Seal if it is time."""
        try:
            self.live_segments = await self._archiver.live_segments()
            if needs_sealing(self.live_segments):
                sealed = await self._archiver.seal()
                self.live_segments -= sealed.segments
                self.sealed_segments += sealed.segments
                _log.info("sealed %d segments up to %d", sealed.segments, sealed.position)
        except (StoreUnavailable, OutcomeUnknown, Compacted, OSError) as error:
            self.failures += 1
            self.fault = str(error)
            _log.warning("the log was not sealed, the next round tries again: %s", error)
        else:
            self.fault = ""
