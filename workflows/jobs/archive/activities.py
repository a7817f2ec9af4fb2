"""The activities of archiving: check the live log, archive its segments, delete old archive files.

A repeated activity finishes the work of an interrupted attempt. Only one of two concurrent
activities has an effect, because the revision of the archive cursor guards every transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.archive_directory import Files
from core.archive.archiver import Archiver, SealResult, needs_sealing
from core.archive.pruner import Pruner, PruneResult, Retention
from core.domain.validation.common_rules import counted
from core.errors import LogCorrupt, LogGap, OutcomeUnknown, StoreFull
from core.eventstore.full_etcd import make_reserve
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from workflows.api import activity
from workflows.model.errors import ApplicationError

NEEDS_A_PERSON: Final = "NeedsAPerson"
"""The failure type of a corrupt log or archive, which is not retried."""

CHECK_STALE_S: Final = 180.0
"""After so many seconds without a check, a process assumes that another replica checks."""

_log: Final = logging.getLogger(__name__)


class SealCheck(NamedTuple):
    """The length of the live log, and whether it must be archived now."""

    live_segments: int
    seal_is_due: bool


class ArchiveActivities:
    """The activities of archiving, and counts since the process started."""

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
        self._checked_s = 0.0

    @property
    def live_segments(self) -> int:
        """Live segments at this process's last check; 0 after ``CHECK_STALE_S``."""
        return self._live if self._now_s() - self._checked_s <= CHECK_STALE_S else 0

    @property
    def all(self) -> tuple[Callable[..., object], ...]:
        """The activities, for the registry of a worker."""
        return self.check, self.seal, self.prune

    @activity.defn(name="archive-look")
    async def check(self) -> SealCheck:
        """Measure the live log.

        Raises StoreUnavailable, OSError, and ApplicationError of type ``NEEDS_A_PERSON``.
        """
        with _ReportedFailure(self):
            # The reserve is a large key, which is deleted to make room when etcd is full.
            with suppress(StoreFull, OutcomeUnknown):  # the next check creates the reserve
                await make_reserve(self._store, self._keys)
            self._live = await self._archiver.live_segments()
        self._checked_s = self._now_s()
        return SealCheck(self._live, needs_sealing(self._live))

    @activity.defn(name="archive-seal")
    async def seal(self) -> SealResult:
        """Archive the live log. Raises OutcomeUnknown, Compacted, and as ``check``."""
        with _ReportedFailure(self):
            sealed = await self._archiver.seal()
        self._live = max(self._live - sealed.segments, 0)
        self.sealed_segments += sealed.segments
        _log.info(
            "archived %s of the log, up to position %d",
            counted(sealed.segments, "segment"),
            sealed.position,
        )
        return sealed

    @activity.defn(name="archive-prune")
    async def prune(self) -> PruneResult:
        """Delete archive files beyond their retention. Raises the errors of ``seal``."""
        with _ReportedFailure(self):
            pruned = await self._pruner.prune(self._retention, round(self._now_s() * 1000))
        if pruned.files:
            self.pruned_files += pruned.files
            files = counted(pruned.files, "archive file")
            _log.info("deleted %s, up to position %d", files, pruned.position)
        return pruned


class _ReportedFailure:
    """Counts and logs failures. Makes LogCorrupt and LogGap non-retryable."""

    def __init__(self, activities: ArchiveActivities) -> None:
        self._activities = activities

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception):
            return
        self._activities.failures += 1
        _log.warning("a step of archiving the log failed: %s", error)
        if isinstance(error, LogCorrupt | LogGap):
            raise ApplicationError(str(error), type=NEEDS_A_PERSON, non_retryable=True) from error
