"""Who begins the executions of external binding: whoever leads, as soon as a binding asks for it.

Bindings are followed, nothing is polled but the claims of what is bound: where they have ended
without the provider having been told (a person released them, another Pod of the name superseded
them), that is made up for. A begin too many changes nothing, a lost one is made up for by whoever
leads next. It never speaks to a provider and ends no claim.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.allocation.bindings import BINDINGS, Binding, Bindings, StoredBinding
from core.allocation.endpoint_writer import read_claims
from core.domain.evolution import EndpointKey
from core.errors import Compacted, ExecutionFailed, OrbweaverError
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import waiting_for_store
from core.process.concurrency import until_all
from workflows.engine.client.client import Client, WorkflowHandle
from workflows.engine.client.start_transactions import StartOptions
from workflows.jobs.provider.binding import GIVE_BACK, ExternalBinding
from workflows.jobs.provider.values import ProviderRelease
from workflows.model.policies import ExecutionStatus, IdConflictPolicy

AWAY_PAUSE_S: Final = 0.5
"""Before following begins anew."""

AGAIN_PAUSE_S: Final = 1.0
"""Before an execution that left its binding as it was is followed by another."""

LOOK_S: Final = 300.0
"""Between two looks at the claims of everything that is bound."""

ENDED: Final = "its claims have ended without the provider"
ATTACH: Final = StartOptions(conflict=IdConflictPolicy.USE_EXISTING)

_log: Final = logging.getLogger(__name__)


class ProviderDispatcher:
    """One cluster's; to be run by whoever leads."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, client: Client, faults: Faults | None = None
    ) -> None:
        self._faults = Faults() if faults is None else faults
        self._store = store
        self._keys = keys
        self._client = client
        self._bindings = Bindings(store, keys)
        self._news: set[EndpointKey] = set()
        self._attended: dict[EndpointKey, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow until cancelled. Raises what no retry helps."""
        try:
            await until_all(self._follow(), self._look_at_claims())
        finally:
            tasks = list(self._attended.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        room = self._keys.room("binding")
        while True:
            try:
                found = await self._store.read([Get(*room)])
                for kv in found.ranges[0].kvs:
                    self._hear(kv.key, kv.value)
                async for batch in self._store.watch([room], after=found.revision):
                    for change in batch.changes:
                        self._hear(change.key, change.value)
            except OrbweaverError as error:
                if not (error.retryable or isinstance(error, Compacted)):
                    raise
                _log.warning("following the bindings begins anew: %s", error)
            await asyncio.sleep(AWAY_PAUSE_S)

    def _hear(self, name: bytes, value: bytes | None) -> None:
        """Attend to a binding; one that is gone, or cannot be read, needs nothing."""
        if value is None:
            self._faults.clear(key_text(self._keys, name))
            return
        binding = self._faults.read(BINDINGS, self._keys, name, value)
        if binding is not None:
            self._news.add(binding.order.key)
            self._begin_to_attend(binding.order.key)

    def _begin_to_attend(self, key: EndpointKey) -> None:
        if key not in self._attended:
            task = self._attended[key] = asyncio.create_task(self._attend(key))
            task.add_done_callback(lambda done: self._leave(key, done))

    def _leave(self, key: EndpointKey, task: asyncio.Task[None]) -> None:
        del self._attended[key]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("the binding of %s/%s is left alone: %s", *key, error)
        elif key in self._news:
            self._begin_to_attend(key)

    async def _attend(self, key: EndpointKey) -> None:
        """Have an execution at work until there is nothing more to do."""
        last = 0
        while True:
            self._news.discard(key)
            try:
                found: StoredBinding = await waiting_for_store()(self._bindings.find, key)
                if found.binding is None or found.binding.state == "bound":
                    return
                if found.revision == last:
                    await asyncio.sleep(AGAIN_PAUSE_S)
                last = found.revision
                if await _status(await self._begin(found.binding)) == ExecutionStatus.TERMINATED:
                    await self._bindings.remove(key, found)
            except OrbweaverError as error:
                if not error.retryable:
                    raise
                _log.warning("the binding of %s/%s is looked at again: %s", *key, error)
                await asyncio.sleep(AGAIN_PAUSE_S)

    async def _begin(self, binding: Binding) -> WorkflowHandle:
        order = binding.order
        if binding.state == "asked":
            return await self._client.start(
                ExternalBinding, order, id=order.workflow_id, options=ATTACH
            )
        back = ProviderRelease(order, binding.reason, binding.why)
        return await self._client.signal_with_start(
            ExternalBinding, order, id=order.workflow_id, signal=GIVE_BACK, signal_args=[back]
        )

    async def _look_at_claims(self) -> None:
        """Give back what is bound and not claimed any more."""
        while True:
            try:
                found = await self._store.read([Get(*self._keys.room("binding"))])
                for kv in found.ranges[0].kvs:
                    binding = self._faults.read(BINDINGS, self._keys, kv.key, kv.value)
                    if binding is not None:
                        await self._look_at(StoredBinding(binding, kv.mod_revision))
            except OrbweaverError as error:
                if not error.retryable:
                    raise
                _log.warning("what is bound is looked at later: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _look_at(self, found: StoredBinding) -> None:
        assert found.binding is not None
        order = found.binding.order
        addresses = [address for address, _ in order.claims]
        if found.binding.state != "bound":
            return
        if not await read_claims(self._store, self._keys, order.key, addresses):
            await self._bindings.write(found, Binding(order, "returning", ENDED))


async def _status(handle: WorkflowHandle) -> str:
    """How an execution has ended."""
    try:
        await handle.result()
    except ExecutionFailed as error:
        return error.status
    return ExecutionStatus.COMPLETED
