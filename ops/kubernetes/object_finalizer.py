"""Deletes pools, subnets and reservations from the event log.

A pool or subnet is retired, which stops new claims, and deleted when it has no claims. The steps
are idempotent, so that another controller can continue after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.configuration.commands import (
    DeletePool,
    DeleteReservation,
    DeleteSubnet,
    RetirePool,
    RetireSubnet,
)
from core.domain.subnets.subnet_model import pools_of_subnet
from core.errors import Refused
from core.kubernetes.informer import Informer
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.translated_kinds import TranslatedKind, is_being_deleted, value_in_log
from ops.kubernetes.translator_commands import Commands


class ObjectFinalizer:
    """Deletes objects from the log."""

    def __init__(
        self,
        informers: Mapping[TranslatedKind, Informer],
        commands: Commands,
        objects: ObjectWriter,
    ) -> None:
        self._informers = informers
        self._commands = commands
        self._objects = objects

    async def drain(self, kind: TranslatedKind, name: str) -> str:
        """Retire the object, and delete it if it has no claims.

        Returns why the deletion must wait, or "". Raises ApiError, StoreError, NotReady.
        """
        if value_in_log(self._commands.ledger, kind, name) is None:
            return ""
        try:
            match kind:
                case TranslatedKind.POOL:
                    return await self._drain_pool(name)
                case TranslatedKind.SUBNET:
                    return await self._drain_subnet(name)
                case TranslatedKind.RESERVATION:
                    await self._commands.apply(DeleteReservation(name))
                    return ""
        except Refused as error:
            # Another writer has deleted the object or claimed an address: reconcile again later.
            return str(error)

    def is_unused(self, kind: TranslatedKind, name: str) -> bool:
        """Whether no claim of the pool, or no pool of the subnet, is left in the projection."""
        if kind is TranslatedKind.SUBNET:
            return not pools_of_subnet(name, self._commands.ledger.pools)
        return not self._claim_count(name)

    async def _drain_pool(self, name: str) -> str:
        await self._commands.apply(RetirePool(name))
        if count := self._claim_count(name):
            return f"{count} {'address is' if count == 1 else 'addresses are'} still allocated"
        await self._commands.apply(DeletePool(name))
        return ""

    async def _drain_subnet(self, name: str) -> str:
        await self._commands.apply(RetireSubnet(name))
        for pool in pools_of_subnet(name, self._commands.ledger.pools):
            body = self._informers[TranslatedKind.POOL].objects.get(("", pool.name))
            if body is None:  # the pool is in the log only
                await self._drain_pool(pool.name)
            elif not is_being_deleted(body):
                await self._objects.delete(TranslatedKind.POOL, body)
        pools = [pool.name for pool in pools_of_subnet(name, self._commands.ledger.pools)]
        if pools:
            return f"pools still exist: {', '.join(pools[:8])}{' ...' if len(pools) > 8 else ''}"
        await self._commands.apply(DeleteSubnet(name))
        return ""

    def _claim_count(self, pool: str) -> int:
        tally = self._commands.projector.projection.tallies.get(pool)
        return tally.counts.claimed if tally else 0
