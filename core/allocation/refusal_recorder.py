"""Write refused ADDs to the log in the background, so that no ADD waits for the write.

Equal refusals within a time window become one event with their number. An event that cannot be
queued or written is dropped (see ``dropped``). No write is retried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from core.domain.claims.refused_adds import RefusalWindows, RefusedAdd, refusal_of
from core.domain.events import Cause
from core.domain.request_facts import PodFacts
from core.domain.validation.common_rules import counted
from core.errors import AllocationError, OrbweaverError
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Proposal
from core.eventstore.writer import Writer

QUEUE_EVENTS_MAX: Final = 256

BATCH_EVENTS_MAX: Final = 16
"""With the longest texts, these events are still far below the request limit of etcd."""

CLOSE_S_MAX: Final = 2.0
"""The time limit of ``close``."""

_log: Final = logging.getLogger(__name__)


class RefusalRecorder:
    """Records the refused ADDs of one agent.

    ``failed``: the number of refusals that could not be queued or written.
    """

    def __init__(self, writer: Writer, now_s: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._now_s = now_s
        self._windows = RefusalWindows()
        self._pending: deque[RefusedAdd] = deque()
        self._refusal_noted = asyncio.Event()
        self.failed = 0

    @property
    def dropped(self) -> int:
        """The number of refusals missing from the log: failed, or without a free window."""
        return self.failed + self._windows.overflows

    def note(self, pod: PodFacts, interface: str, error: AllocationError, cause: Cause) -> None:
        """Count and queue one refused ADD of a NIC."""
        refused = RefusedAdd(refusal_of(pod, interface, error), cause)
        first_of_window = self._windows.note(refused, self._now_s())
        if first_of_window is not None:
            self._queue(first_of_window)
        self._refusal_noted.set()

    async def run(self) -> None:
        """Write the noted refusals, until cancelled."""
        while True:
            await self._wait()
            await self.write_due()

    async def write_due(self) -> None:
        """Write the events of new and of ended windows."""
        for refused in self._windows.end_windows(self._now_s()):
            self._queue(refused)
        await self._write_pending()

    async def close(self) -> None:
        """Write all remaining events, within ``CLOSE_S_MAX``. Call it after ``run`` has ended."""
        for refused in self._windows.close_all():
            self._queue(refused)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._write_pending()

    async def _wait(self) -> None:
        end_s = self._windows.next_end_s
        seconds = None if end_s is None else max(end_s - self._now_s(), 0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._refusal_noted.wait()
        self._refusal_noted.clear()

    def _queue(self, refused: RefusedAdd) -> None:
        if len(self._pending) >= QUEUE_EVENTS_MAX:
            self.failed += refused.event.times
            return
        self._pending.append(refused)

    async def _write_pending(self) -> None:
        while self._pending:
            count = min(len(self._pending), BATCH_EVENTS_MAX)
            batch = [self._pending.popleft() for _ in range(count)]
            drafts = [EventDraft(self._writer.event_id(), cause, event) for event, cause in batch]
            try:
                await self._writer.append(Proposal(tuple(drafts), (), ()))
            except OrbweaverError as error:
                self._count_failed(batch)
                adds = counted(count, "refused ADD")
                _log.warning("could not write %s to the log: %s", adds, error)
            except BaseException:
                # Cancelled: the events may be in the log already, so the write is not retried.
                self._count_failed(batch)
                raise

    def _count_failed(self, batch: Sequence[RefusedAdd]) -> None:
        self.failed += sum(refused.event.times for refused in batch)
