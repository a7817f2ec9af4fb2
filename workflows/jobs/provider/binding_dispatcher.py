"""Start and signal the executions that bind addresses at a network provider.

The leader follows the bindings that agents write (``core.allocation.bindings``). Every
``CLAIM_CHECK_S`` it also requests the release of bound addresses whose claims have ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.allocation.bindings import BINDING_KEYS, Binding, BindingStore, StoredBinding
from core.allocation.releaser import read_claims
from core.domain.evolution import EndpointKey
from core.errors import ExecutionFailed
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import retry_unavailable
from core.eventstore.undecodable_values import Faults
from core.process import tracing
from core.process.concurrency import until_all
from core.process.retry import Backoff, retry_until_done
from workflows.api.options import USE_EXISTING
from workflows.engine.client.client import Client
from workflows.engine.client.handles import WorkflowHandle
from workflows.jobs.provider.activities import ProviderRelease
from workflows.jobs.provider.binding import GIVE_BACK, ExternalBinding
from workflows.model.policies import ExecutionStatus

WATCH_PAUSE_S: Final = 0.5
UNCHANGED_PAUSE_S: Final = 1.0
"""The pause before an unchanged binding gets another execution, and after a failure."""

CLAIM_CHECK_S: Final = 300.0
CLAIMS_ENDED: Final = "its claims have ended without a release at the provider"

_log: Final = logging.getLogger(__name__)


class BindingDispatcher:
    """The dispatcher of one cluster."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, client: Client, faults: Faults | None = None
    ) -> None:
        self._faults = Faults() if faults is None else faults
        self._store = store
        self._keys = keys
        self._client = client
        self._bindings = BindingStore(store, keys)
        self._changed_keys: set[EndpointKey] = set()
        self._tasks: dict[EndpointKey, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the bindings until cancelled. Raises errors that are not retried."""
        try:
            await until_all(
                retry_until_done(self._watch, "the watch of the bindings", Backoff(WATCH_PAUSE_S)),
                retry_until_done(self._check_claims, "the check of claims", Backoff(CLAIM_CHECK_S)),
            )
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        keys = self._keys.range_of("binding")
        while True:
            result = await self._store.read([Get(*keys)])
            for kv in result.ranges[0].kvs:
                self._note(kv.key, kv.value)
            async for batch in self._store.watch([keys], after=result.revision):
                for change in batch.changes:
                    self._note(change.key, change.value)
            await asyncio.sleep(WATCH_PAUSE_S)

    def _note(self, etcd_key: bytes, value: bytes | None) -> None:
        if value is None:
            self._faults.clear(key_text(self._keys, etcd_key))
            return
        binding = BINDING_KEYS.read(self._keys, etcd_key, value, self._faults)
        if binding is not None:
            self._changed_keys.add(binding.request.key)
            self._start_task(binding.request.key)

    def _start_task(self, key: EndpointKey) -> None:
        if key not in self._tasks:
            task = self._tasks[key] = asyncio.create_task(self._handle(key))
            task.add_done_callback(lambda ended: self._note_end(key, ended))

    def _note_end(self, key: EndpointKey, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("cannot handle the binding of %s/%s: %s", *key, error)
        elif key in self._changed_keys:
            self._start_task(key)

    async def _handle(self, key: EndpointKey) -> None:
        what = f"handling the binding of {'/'.join(key)}"
        await retry_until_done(lambda: self._run_executions(key), what, Backoff(UNCHANGED_PAUSE_S))

    async def _run_executions(self, key: EndpointKey) -> None:
        last_revision = 0
        while True:
            self._changed_keys.discard(key)
            stored: StoredBinding = await retry_unavailable()(self._bindings.find, key)
            if stored.binding is None or stored.binding.state == "bound":
                return
            if stored.revision == last_revision:
                await asyncio.sleep(UNCHANGED_PAUSE_S)
            last_revision = stored.revision
            status = await _status(await self._start(stored.binding))
            if status == ExecutionStatus.TERMINATED:  # the user wants no other execution
                await self._bindings.remove(key, stored)

    async def _start(self, binding: Binding) -> WorkflowHandle:
        request = binding.request
        if binding.state == "asked":
            with tracing.within(binding.trace):
                return await self._client.start(
                    ExternalBinding, request, id=request.workflow_id, options=USE_EXISTING
                )
        release = ProviderRelease(request, binding.reason, binding.why)
        return await self._client.signal_with_start(
            ExternalBinding,
            request,
            id=request.workflow_id,
            signal=GIVE_BACK,
            signal_args=[release],
        )

    async def _check_claims(self) -> None:
        while True:
            result = await self._store.read([Get(*self._keys.range_of("binding"))])
            for kv in result.ranges[0].kvs:
                binding = BINDING_KEYS.read(self._keys, kv.key, kv.value, self._faults)
                if binding is not None and binding.state == "bound":
                    await self._check_binding(binding, kv.mod_revision)
            await asyncio.sleep(CLAIM_CHECK_S)

    async def _check_binding(self, binding: Binding, revision: int) -> None:
        request = binding.request
        addresses = [address for address, _ in request.claims]
        if not await read_claims(self._store, self._keys, request.key, addresses):
            returning = Binding(request, "returning", CLAIMS_ENDED)
            await self._bindings.write(StoredBinding(binding, revision), returning)


async def _status(handle: WorkflowHandle) -> str:
    """Wait for the end of an execution, and return its status."""
    try:
        await handle.result()
    except ExecutionFailed as error:
        return error.status
    return ExecutionStatus.COMPLETED
