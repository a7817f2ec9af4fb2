"""A worker for the jobs inside a controller: every replica has one, any of them may die.

The executions belong to no replica. Whoever starts makes sure that they exist and tells them its
settings; whoever owns their shard does their work, and when it dies another takes over. Told to
stop, the worker lets what it is doing come to an end and gives its shards back at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from core.domain.reclaim.settings import ReclaimSettings
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.retrying import waiting_for_store
from workflows.api.definitions import Registry
from workflows.engine.client import Client
from workflows.engine.worker import Worker, WorkerOptions
from workflows.jobs.facts import FactsSource, StandaloneFacts
from workflows.jobs.reclaim import ORDERS, WORKFLOW_ID, ReclaimScan, orders_of
from workflows.jobs.scanning import ReclaimActivities

_log: Final = logging.getLogger(__name__)


class JobHost:
    """One replica's share of the jobs. ``facts`` None: standalone."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        name: str,
        settings: ReclaimSettings,
        *,
        facts: FactsSource | None = None,
        options: WorkerOptions = WorkerOptions(),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keys = keys
        self._name = name
        self._settings = settings
        source = facts or StandaloneFacts(store, keys)
        self.activities = ReclaimActivities(store, keys, source, settings, now_s=now_s)
        self.worker = _WatchedWorker(
            store,
            keys,
            Registry([ReclaimScan], [self.activities.observe, self.activities.release]),
            name=name,
            options=options,
        )

    async def run(self) -> None:
        """Work until cancelled. Raises what no retry helps."""
        self.worker.start()
        try:
            await self.worker.ready()
            await waiting_for_store()(self._begin)
            await self.worker.ended()
        finally:
            await self.worker.close()
            await self.activities.close()

    async def _begin(self) -> None:
        """See that the execution is there, with the settings of whoever started last."""
        orders = orders_of(self._settings)
        async with Client(self._store, self._keys, name=self._name) as client:
            handle = await client.signal_with_start(
                ReclaimScan, orders, id=WORKFLOW_ID, signal=ORDERS, signal_args=[orders]
            )
        _log.info("reclaiming is at work", extra={"fields": {"run": handle.run_id}})


class _WatchedWorker(Worker):
    """A worker that tells when it has come to an end by itself."""

    async def run(self) -> None:
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await super().run()
        except Exception as error:
            self._end.set_exception(error)
            raise

    async def ended(self) -> None:
        """Wait for that; raises what ended it. Comes after ``ready``."""
        await self._end
