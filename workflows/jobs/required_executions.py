"""Required executions: starts those that do not run, and signals them when something changed.

What there must be is a pure function of the projection. The leader runs this: whenever the
projection moves, an execution whose news has changed is signalled, and begun if it is not there;
now and then those without news are begun again if somebody has ended them by hand.
It never decides what an execution does with the news.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from core.errors import ExecutionNotFound, LogCorrupt, OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.projections.fold import Projection
from core.projections.projector import Projector
from workflows.engine.client.client import Client
from workflows.engine.client.start_transactions import StartOptions
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.model.errors import LimitExceeded
from workflows.model.policies import IdConflictPolicy

NOTICE_PERIOD_S: Final = 0.2
"""Between two looks at a projection that moves all the time."""

AGAIN_S: Final = 600.0
"""After so long all executions are looked for, whether there is news or not."""

IF_GONE: Final = StartOptions(conflict=IdConflictPolicy.USE_EXISTING)

_log: Final = logging.getLogger(__name__)


class RequiredExecution(NamedTuple):
    """An execution that must be there. Its signal has no arguments; ``news`` decides when.

    ``begins`` False: another execution begins it as its child; it is only told, if it is there.
    """

    workflow: type[Any]
    workflow_id: str
    arguments: tuple[object, ...]
    signal: str
    news: object = None
    begins: bool = True


Notices = Callable[[Projection], Iterable[RequiredExecution]]


class ExecutionKeeper:
    """Tells what one projector sees. ``told``: notices that were given so far."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        sources: Sequence[Notices],
        name: str,
        *,
        period_s: float = NOTICE_PERIOD_S,
        again_s: float = AGAIN_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told = 0
        self._store = store
        self._keys = keys
        self._projector = projector
        self._sources = sources
        self._name = name
        self._period_s = period_s
        self._again_s = again_s
        self._monotonic = monotonic
        self._known: dict[str, object] = {}
        self._sought: set[str] = set()

    async def run(self) -> None:
        """Tell until cancelled. Raises what no retry helps."""
        await self._projector.wait_for(lambda: self._projector.ready)
        self._known.clear()
        async with Client(self._store, self._keys, name=self._name) as client:
            again_at = self._monotonic() + self._again_s
            while True:
                seen = self._projector.projection.position
                is_all_told = await self._tell(client)
                wait_s = again_at - self._monotonic() if is_all_told else self._period_s
                await self._until_news(seen, max(wait_s, self._period_s))
                if self._monotonic() >= again_at:
                    self._sought.update(self._known)
                    again_at = self._monotonic() + self._again_s

    async def _tell(self, client: Client) -> bool:
        """Tell all news; whether everybody could be told."""
        projection = self._projector.projection
        notices = [notice for source in self._sources for notice in source(projection)]
        is_all_told = True
        ids = {notice.workflow_id for notice in notices}
        self._known = {key: news for key, news in self._known.items() if key in ids}
        self._sought &= ids
        for notice in notices:
            try:
                await self._give(client, notice)
            except LogCorrupt as error:  # of this execution alone; the next round tries again
                is_all_told = False
                key = error.subject.removeprefix(self._keys.root.decode())
                self._projector.faults.report(OPEN_HEADS.name, key, error)
            except LimitExceeded as error:  # its inbox is full of news that it has not taken yet
                _log.warning("%s was not told: %s", notice.workflow_id, error)
                self._known[notice.workflow_id] = notice.news
            except OrbweaverError as error:
                if not error.retryable:
                    raise
                _log.warning("%s was not told, it will be again: %s", notice.workflow_id, error)
                return False
        return is_all_told

    async def _give(self, client: Client, notice: RequiredExecution) -> None:
        workflow_id, news = notice.workflow_id, notice.news
        if workflow_id not in self._known or self._known[workflow_id] != news:
            await self._tell_one(client, notice)
            self.told += 1
        elif workflow_id in self._sought and notice.begins:
            await client.start(notice.workflow, *notice.arguments, id=workflow_id, options=IF_GONE)
        self._known[workflow_id] = news
        self._sought.discard(workflow_id)

    @staticmethod
    async def _tell_one(client: Client, notice: RequiredExecution) -> None:
        workflow_id = notice.workflow_id
        if notice.begins:
            await client.signal_with_start(
                notice.workflow, *notice.arguments, id=workflow_id, signal=notice.signal
            )
            return
        with suppress(ExecutionNotFound):  # a child that begins later sees by itself what is so
            await client.signal(workflow_id, notice.signal)

    async def _until_news(self, seen: int, wait_s: float) -> None:
        """Until the projection has moved, and a little longer; at most ``wait_s``."""

        def has_moved() -> bool:
            return self._projector.projection.position != seen

        try:
            async with asyncio.timeout(wait_s):
                await self._projector.wait_for(has_moved)
        except TimeoutError:
            return
        await asyncio.sleep(self._period_s)
