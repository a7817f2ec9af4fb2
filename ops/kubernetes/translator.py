"""The translator: applies the custom resources to the event log.

The translator compares objects with the log and applies the differences. A failed object is retried
later and does not block others. A refusal becomes a condition and an Event. A refused object is
retried after changes of other objects, because most rules compare objects. Only values that came
from a custom resource are retired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.autopools.pool_names import OWNER_NAME
from core.domain.configuration.commands import Command
from core.domain.model import Reservation
from core.domain.subnets.subnet_model import subnet_for
from core.errors import ApiRejected, BadInput, Refused
from core.kubernetes.api_client import Object
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.process.concurrency import until_first
from ops.kubernetes.conditions import (
    APPLIED_CONDITION,
    draining_conditions,
    is_refused,
    refusal_condition,
)
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.inheritance import inherited_fields
from ops.kubernetes.object_finalizer import ObjectFinalizer
from ops.kubernetes.pool_status_writer import StatusWriter
from ops.kubernetes.translated_kinds import (
    TranslatedKind,
    command_of,
    custom_resource_uid,
    is_being_deleted,
    value_in_log,
    values_in_log,
)
from ops.kubernetes.translator_commands import Commands

RESYNC_S: Final = 300.0
"""All objects are reconciled at this interval, because orbctl may have changed the log."""


class Item(NamedTuple):
    """An object that may differ from the log."""

    kind: TranslatedKind
    name: str


class Translator:
    """The translator of custom resources.

    ``draining``: object in use that is being deleted -> log position of its last reconciliation.
    """

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
        self._finalizer = ObjectFinalizer(self.informers, commands, objects)
        self._work = WorkQueue(self._reconcile, "custom resources")

    @property
    def idle(self) -> bool:
        """Whether every object is reconciled and no object waits for a retry."""
        are_listed = all(informer.listed.is_set() for informer in self.informers.values())
        return are_listed and self._work.empty

    async def run(self) -> None:
        """Translate until cancelled. Raises LostRace if another controller leads."""
        await until_first(self._translate(), self._queue_drained(), self._resync())

    async def _translate(self) -> None:
        for informer in self.informers.values():
            await informer.listed.wait()
        self._work.add(self._all_items())
        await self._work.run(lambda: self._commands.overtaken)

    async def _reconcile(self, item: Item) -> None:
        body = self.informers[item.kind].objects.get(("", item.name))
        self.refused.discard(item)
        self.draining.pop(item, None)
        if body is None:
            await self._drain_missing(item)
        elif is_being_deleted(body):
            await self._finalize(item, body)
        elif OWNER_NAME not in body["metadata"].get("labels", {}):
            # Custom resources of automatic pools are reports, which are not applied.
            await self._apply(item, body)

    async def _apply(self, item: Item, body: Object) -> None:
        if await self._drain_former(item, body):
            return
        try:
            command = command_of(body)
            body = await self._add_metadata(item, body, command)
            changed = await self._commands.apply(command)
        except (Refused, BadInput) as error:
            self.refused.add(item)
            if item.kind is TranslatedKind.POOL:
                await self._commands.note_refused(item.name, str(error))
            self._status.set_conditions(item.kind, body, [refusal_condition(error)])
            return
        if changed:
            self._work.add(self.refused | self._affected_items(item, body))
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
            body = await self._add_inherited_fields(body)
        self._status.set_conditions(item.kind, body, [APPLIED_CONDITION])

    async def _add_metadata(self, item: Item, body: Object, command: Command) -> Object:
        """Add the required metadata; return the object. Raises Refused, ApiError, StoreError.

        The webhooks refuse this change if the object breaks a rule, for example because it was
        stored while no webhook was registered. A dry run then raises this refusal.
        """
        try:
            return await self._objects.add_metadata(item.kind, body, command)
        except ApiRejected:
            await self._commands.dry_run(command)
            raise

    def _affected_items(self, item: Item, body: Object) -> set[Item]:
        """A changed subnet and the pools of its CIDR.

        The subnet is included, because one reconciliation adopts a limited number of pools.
        """
        if item.kind is not TranslatedKind.SUBNET:
            return set()
        pools = self.informers[TranslatedKind.POOL].objects.items()
        cidr = body["spec"]["subnet"]
        names = [name for (_, name), pool in pools if pool["spec"]["subnet"] == cidr]
        return {item, *(Item(TranslatedKind.POOL, name) for name in names)}

    async def _add_inherited_fields(self, body: Object) -> Object:
        """Add the fields that the pool in the log inherited; return the changed object."""
        ledger = self._commands.ledger
        pool = ledger.pools.get(body["metadata"]["name"])
        if pool is None:
            return body
        subnet = subnet_for(pool, self._commands.configuration.owning_subnets)
        missing = inherited_fields(body, pool, subnet)
        if not missing:
            return body
        return await self._objects.complete(TranslatedKind.POOL, body, missing)

    async def _drain_former(self, item: Item, body: Object) -> bool:
        """Drain an earlier object with this name; return whether the log still has it."""
        former = value_in_log(self._commands.ledger, item.kind, item.name)
        if former is None or isinstance(former, Reservation) or not former.retiring:
            return False
        reason = await self._drain(item)
        if reason:
            message = f"an earlier object of this name is being drained: {reason}"
            self._status.set_conditions(item.kind, body, draining_conditions(message))
        return bool(reason)

    async def _finalize(self, item: Item, body: Object) -> None:
        former = value_in_log(self._commands.ledger, item.kind, item.name)
        # A value without the UID of a custom resource was not created by a refused object.
        is_foreign = former is not None and not custom_resource_uid(former) and is_refused(body)
        reason = "" if is_foreign else await self._drain(item)
        if reason:
            self._status.set_conditions(item.kind, body, draining_conditions(reason))
            return
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        await self._objects.release(item.kind, body)

    async def _drain_missing(self, item: Item) -> None:
        """Drain an object that was deleted without Orbweaver's finalizer."""
        if item.kind is TranslatedKind.POOL:
            await self._commands.forget_refused(item.name)
        former = value_in_log(self._commands.ledger, item.kind, item.name)
        if former is not None and custom_resource_uid(former):
            await self._drain(item)

    async def _drain(self, item: Item) -> str:
        """Drain an object; return why it cannot be deleted yet, or ""."""
        position = self._commands.ledger.position
        reason = await self._finalizer.drain(*item)
        if reason:
            self.draining[item] = position
        else:
            # Refused objects may use the addresses and the name of the deleted object now.
            self._work.add(self.refused)
        return reason

    async def _queue_drained(self) -> None:
        while True:
            await self._commands.projector.wait_for(lambda: any(self._drained_items()))
            self._work.add(list(self._drained_items()))

    def _drained_items(self) -> Iterator[Item]:
        position = self._commands.ledger.position
        for item, tried_at in self.draining.items():
            is_new = position > tried_at and item not in self._work
            if is_new and self._finalizer.is_unused(*item):
                yield item

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self._all_items())

    def _all_items(self) -> list[Item]:
        """All custom resources, values in the log that came from one, and refused pools."""
        items = {
            Item(kind, name) for kind in TranslatedKind for _, name in self.informers[kind].objects
        } | {
            Item(kind, name)
            for kind in TranslatedKind
            for name, value in values_in_log(self._commands.ledger, kind).items()
            if custom_resource_uid(value)
        }
        items |= {Item(TranslatedKind.POOL, name) for name in self._commands.refused_pools}
        # Subnets before pools, so that an adopted pool is written only once.
        order = list(TranslatedKind)
        return sorted(items, key=lambda item: (order.index(item.kind), item.name))

    def _listener(self, kind: TranslatedKind) -> Callable[[set[ObjectKey]], None]:
        return lambda keys: self._work.add(Item(kind, name) for _, name in keys)
