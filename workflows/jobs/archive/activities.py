"""The activities of archiving: one look, one seal, one prune.

Each is whole by itself and may be repeated: a seal or prune finishes what a dead one left undone.
What fences them is the archive cursor's revision, which guards every transaction they make; of two
at once, a late one and the next owner's, one wins and the other leaves nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.archiver import Archiver, Sealed, needs_sealing
from core.archive.files import Files
from core.archive.pruner import Pruned, Pruner, Retention
from core.errors import LogCorrupt, LogGap, OutcomeUnknown, StoreFull
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.reserve import make_reserve
from workflows.api import activity
from workflows.model.errors import ApplicationError

NEEDS_A_PERSON: Final = "NeedsAPerson"
"""The failure type of a log or archive that is broken: no retry helps."""

LOOK_STALE_S: Final = 180.0
"""Three pauses without a look here: another replica has the execution."""

_log: Final = logging.getLogger(__name__)


class SealCheck(NamedTuple):
    """How long the live log is, and whether it is to be sealed."""

    live_segments: int
    seal_is_due: bool


class ArchiveActivities:
    """The activities and what they need. Counts are since the start of this process."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        files: Files,
        retention: Retention = Retention(),
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.sealed_segments = 0
        self.pruned_files = 0
        self.failures = 0
        self._store = store
        self._keys = keys
        self._archiver = Archiver(store, keys, files, now_ms=lambda: round(now_s() * 1000))
        self._pruner = Pruner(store, keys, files)
        self._retention = retention
        self._now_s = now_s
        self._live = 0
        self._looked_s = 0.0

    @property
    def live_segments(self) -> int:
        """As of the last look here; 0 when it was long ago: somebody else looks now."""
        return self._live if self._now_s() - self._looked_s <= LOOK_STALE_S else 0

    @property
    def all(self) -> tuple[Callable[..., object], ...]:
        """For the registry."""
        return self.look, self.seal, self.prune

    @activity.defn(name="archive-look")
    async def look(self) -> SealCheck:
        """Raises StoreUnavailable, OSError; ApplicationError of type ``NEEDS_A_PERSON``."""
        with _Told(self):
            with suppress(StoreFull, OutcomeUnknown):  # the next look makes it
                await make_reserve(self._store, self._keys)
            self._live = await self._archiver.live_segments()
        self._looked_s = self._now_s()
        return SealCheck(self._live, needs_sealing(self._live))

    @activity.defn(name="archive-seal")
    async def seal(self) -> Sealed:
        """Raises as ``look``, and OutcomeUnknown, Compacted: another attempt goes on."""
        with _Told(self):
            sealed = await self._archiver.seal()
        self._live = max(self._live - sealed.segments, 0)
        self.sealed_segments += sealed.segments
        _log.info("sealed %d segments up to %d", sealed.segments, sealed.position)
        return sealed

    @activity.defn(name="archive-prune")
    async def prune(self) -> Pruned:
        """Raises as ``seal``."""
        with _Told(self):
            pruned = await self._pruner.prune(self._retention, round(self._now_s() * 1000))
        if pruned.files:
            self.pruned_files += pruned.files
            _log.info("gave up %d archive files up to %d", pruned.files, pruned.position)
        return pruned


class _Told:
    """Counts and logs what goes wrong inside; says of what needs a person that no retry helps."""

    def __init__(self, counts: ArchiveActivities) -> None:
        self._counts = counts

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception):
            return
        self._counts.failures += 1
        _log.warning("the log was not archived: %s", error)
        if isinstance(error, LogCorrupt | LogGap):
            raise ApplicationError(str(error), type=NEEDS_A_PERSON, non_retryable=True) from error
