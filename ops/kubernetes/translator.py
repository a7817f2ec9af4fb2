"""The translator: makes the log agree with the custom resources.

Level-triggered: it receives the names of objects that may differ, compares their current state, and
applies the difference, one object at a time and in idempotent steps. An object that fails is tried
again later and does not block others. A refusal becomes a condition and an Event of the object; it
is tried again after other changes, because most rules concern several objects.

A collection that cannot be listed never counts as empty, and only values that came from a custom
resource are retired (``resources.SOURCE``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.autopools.names import OWNER_NAME
from core.domain.model import Reservation
from core.domain.subnets.subnet_model import subnet_for
from core.errors import BadInput, Refused
from core.kubernetes.api import Object
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.process.concurrency import until_first
from ops.kubernetes.conditions import APPLIED, draining, refused
from ops.kubernetes.inheritance import inherited_fields
from ops.kubernetes.object_finalizer import ObjectFinalizer
from ops.kubernetes.objects import ObjectWriter
from ops.kubernetes.resources import (
    TranslatedKind,
    command_of,
    is_leaving,
    source_of,
    stored,
    table,
)
from ops.kubernetes.status_writer import StatusWriter
from ops.kubernetes.translator_commands import Commands

RESYNC_S: Final = 300.0
"""Seconds between two reconciliations of all objects, because users may change the log."""


class Item(NamedTuple):
    """An object that may differ."""

    kind: TranslatedKind
    name: str


class Translator:
    """One controller's translator; ``refused`` and ``draining``: objects that wait for a change."""

    def __init__(
        self,
        informers: Mapping[TranslatedKind, Informer],
        commands: Commands,
        objects: ObjectWriter,
        status: StatusWriter,
    ) -> None:
        self.informers = informers
        for kind, informer in informers.items():
            informer.listen(self._listener(kind))
        self.refused: set[Item] = set()
        self.draining: dict[Item, int] = {}
        self._commands = commands
        self._objects = objects
        self._status = status
        self._drainer = ObjectFinalizer(self.informers, commands, objects)
        self._work = WorkQueue(self._reconcile, "custom resources")

    @property
    def idle(self) -> bool:
        """Whether every object is reconciled and none waits for a retry."""
        listed = all(informer.listed.is_set() for informer in self.informers.values())
        return listed and self._work.empty

    async def run(self) -> None:
        """Translate until cancelled. Raises LostRace when another controller has taken over."""
        await until_first(self._translate(), self._await_drained(), self._resync())

    async def _translate(self) -> None:
        for informer in self.informers.values():
            await informer.listed.wait()
        self._work.add(self._all())
        await self._work.run(lambda: self._commands.overtaken)

    async def _reconcile(self, item: Item) -> None:
        body = self.informers[item.kind].objects.get(("", item.name))
        self.refused.discard(item)
        self.draining.pop(item, None)
        if body is None:
            await self._vanished(item)
        elif is_leaving(body):
            await self._leaving(item, body)
        elif OWNER_NAME not in body["metadata"].get("labels", {}):
            # A workflow creates automatic pools; their custom resources are reports.
            await self._apply(item, body)

    async def _apply(self, item: Item, body: Object) -> None:
        if await self._drain_former(item, body):
            return
        try:
            command = command_of(body)
            body = await self._objects.add_metadata(item.kind, body, command)
            changed = await self._commands.apply(command)
        except (Refused, BadInput) as error:
            self.refused.add(item)
            if item.kind is TranslatedKind.POOL:
                await self._commands.note_refused(item.name, str(error))
            self._status.observe(item.kind, body, [refused(error)])
            return
        if changed:
            self._work.add(self.refused | self._adopted(item, body))
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
            body = await self._inherited(body)
        self._status.observe(item.kind, body, [APPLIED])

    def _adopted(self, item: Item, body: Object) -> set[Item]:
        """A subnet and the pools of its CIDR: it adopts a few pools in each reconciliation."""
        if item.kind is not TranslatedKind.SUBNET:
            return set()
        pools = self.informers[TranslatedKind.POOL].objects.items()
        cidr = body["spec"]["subnet"]
        same = (name for (_, name), pool in pools if pool["spec"]["subnet"] == cidr)
        return {item, *(Item(TranslatedKind.POOL, name) for name in same)}

    async def _inherited(self, body: Object) -> Object:
        """The pool's object with the fields that the pool inherited in the log."""
        ledger = self._commands.ledger
        pool = ledger.pools.get(body["metadata"]["name"])
        if pool is None:
            return body
        subnet = subnet_for(pool, self._commands.configuration.owning_subnets)
        missing = inherited_fields(body, pool, subnet)
        return await self._objects.complete(TranslatedKind.POOL, body, missing) if missing else body

    async def _drain_former(self, item: Item, body: Object) -> bool:
        """Drain an earlier object of this name. Returns whether it still exists."""
        former = stored(self._commands.ledger, item.kind, item.name)
        if former is None or isinstance(former, Reservation) or not former.retiring:
            return False
        if why := await self._drain(item):
            message = f"an earlier object of this name is being drained: {why}"
            self._status.observe(item.kind, body, draining(message))
        return bool(why)

    async def _leaving(self, item: Item, body: Object) -> None:
        if why := await self._drain(item):
            self._status.observe(item.kind, body, draining(why))
            return
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        await self._objects.release(item.kind, body)

    async def _vanished(self, item: Item) -> None:
        """Drain an object whose finalizer was removed by hand, or that never had one."""
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        former = stored(self._commands.ledger, item.kind, item.name)
        if former is not None and source_of(former):
            await self._drain(item)

    async def _drain(self, item: Item) -> str:
        position = self._commands.ledger.position
        if why := await self._drainer.drain(*item):
            self.draining[item] = position
        else:
            # Refused objects may use its addresses and its name now.
            self._work.add(self.refused)
        return why

    async def _await_drained(self) -> None:
        """Queue draining objects when the projection has no claim of them any more."""
        while True:
            await self._commands.projector.wait_for(lambda: any(self._drained()))
            self._work.add(list(self._drained()))

    def _drained(self) -> Iterator[Item]:
        position = self._commands.ledger.position
        for item, tried_at in self.draining.items():
            is_new = position > tried_at and item not in self._work
            if is_new and self._drainer.is_unused(*item):
                yield item

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self._all())

    def _all(self) -> list[Item]:
        """All custom resources, and all values in the log that came from one."""
        items = {
            Item(kind, name) for kind in TranslatedKind for _, name in self.informers[kind].objects
        } | {
            Item(kind, name)
            for kind in TranslatedKind
            for name, value in table(self._commands.ledger, kind).items()
            if source_of(value)
        }
        items |= {Item(TranslatedKind.POOL, name) for name in self._commands.refused_pools}
        # Subnets before pools, so that an adopted pool is written once.
        order = list(TranslatedKind)
        return sorted(items, key=lambda item: (order.index(item.kind), item.name))

    def _listener(self, kind: TranslatedKind) -> Callable[[set[ObjectKey]], None]:
        return lambda keys: self._work.add(Item(kind, name) for _, name in keys)
