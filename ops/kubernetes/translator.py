"""The translator: closes the difference between custom resources and the log.

Level-triggered: it is told which objects may differ, looks at what is there now, and does what is
missing. One object at a time, each step can be done again; an object that fails is tried again
later and holds up no other. A refusal is told in the object's conditions and by an Event, and tried
again when something else has changed, since most rules speak of several objects.

It never takes a collection that cannot be listed for an empty one, and only retires what a custom
resource had made (``resources.SOURCE``).
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
"""Everything is looked at again after this long, in case somebody changed the log by hand."""


class Item(NamedTuple):
    """An object that may differ."""

    kind: TranslatedKind
    name: str


class Translator:
    """One controller's translator; ``refused`` and ``draining`` are what waits for a change."""

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
        self._work = WorkQueue(self._look, "custom resources")

    @property
    def idle(self) -> bool:
        """Whether everything was looked at, and nothing has to be tried again."""
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

    async def _look(self, item: Item) -> None:
        one = self.informers[item.kind].objects.get(("", item.name))
        self.refused.discard(item)
        self.draining.pop(item, None)
        if one is None:
            await self._vanished(item)
        elif is_leaving(one):
            await self._leaving(item, one)
        elif OWNER_NAME not in one["metadata"].get("labels", {}):
            # Pools of applications are made by their workflow; their resources are reports.
            await self._wanted(item, one)

    async def _wanted(self, item: Item, one: Object) -> None:
        if await self._former(item, one):
            return
        try:
            command = command_of(one)
            one = await self._objects.adorn(item.kind, one, command)
            changed = await self._commands.apply(command)
        except (Refused, BadInput) as error:
            self.refused.add(item)
            if item.kind is TranslatedKind.POOL:
                await self._commands.note_refused(item.name, str(error))
            self._status.observe(item.kind, one, [refused(error)])
            return
        if changed:
            self._work.add(self.refused | self._adopted(item, one))
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
            one = await self._inherited(one)
        self._status.observe(item.kind, one, [APPLIED])

    def _adopted(self, item: Item, one: Object) -> set[Item]:
        """A subnet adopts some pools at a time: look at it again, and at those of its CIDR."""
        if item.kind is not TranslatedKind.SUBNET:
            return set()
        pools = self.informers[TranslatedKind.POOL].objects.items()
        cidr = one["spec"]["subnet"]
        same = (name for (_, name), pool in pools if pool["spec"]["subnet"] == cidr)
        return {item, *(Item(TranslatedKind.POOL, name) for name in same)}

    async def _inherited(self, one: Object) -> Object:
        """The pool's object, saying what the log's pool has of its subnet."""
        ledger = self._commands.ledger
        pool = ledger.pools.get(one["metadata"]["name"])
        if pool is None:
            return one
        subnet = subnet_for(pool, self._commands.configuration.owning_subnets)
        lacking = inherited_fields(one, pool, subnet)
        return await self._objects.complete(TranslatedKind.POOL, one, lacking) if lacking else one

    async def _former(self, item: Item, one: Object) -> bool:
        """Whether what had the name before is still on its way out."""
        known = stored(self._commands.ledger, item.kind, item.name)
        if known is None or isinstance(known, Reservation) or not known.retiring:
            return False
        if why := await self._drain(item):
            message = f"what had this name before is being drained: {why}"
            self._status.observe(item.kind, one, draining(message))
        return bool(why)

    async def _leaving(self, item: Item, one: Object) -> None:
        if why := await self._drain(item):
            self._status.observe(item.kind, one, draining(why))
            return
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        await self._objects.release(item.kind, one)

    async def _vanished(self, item: Item) -> None:
        """Its finalizer was removed by hand, or it never had one."""
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        known = stored(self._commands.ledger, item.kind, item.name)
        if known is not None and source_of(known):
            await self._drain(item)

    async def _drain(self, item: Item) -> str:
        position = self._commands.ledger.position
        if why := await self._drainer.drain(*item):
            self.draining[item] = position
        else:
            # Addresses and names are free again for those that were refused.
            self._work.add(self.refused)
        return why

    async def _await_drained(self) -> None:
        """Look again at what drains when nothing seems to hold it any longer."""
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
        """Every custom resource, and what of the log was one and is none any more."""
        found = {
            Item(kind, name) for kind in TranslatedKind for _, name in self.informers[kind].objects
        } | {
            Item(kind, name)
            for kind in TranslatedKind
            for name, value in table(self._commands.ledger, kind).items()
            if source_of(value)
        }
        found |= {Item(TranslatedKind.POOL, name) for name in self._commands.refused_pools}
        # Subnets before pools: what is adopted at once is written once.
        order = list(TranslatedKind)
        return sorted(found, key=lambda item: (order.index(item.kind), item.name))

    def _listener(self, kind: TranslatedKind) -> Callable[[set[ObjectKey]], None]:
        return lambda keys: self._work.add(Item(kind, name) for _, name in keys)
