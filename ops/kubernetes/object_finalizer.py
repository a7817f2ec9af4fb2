"""Pools and subnets on their way out: no new claims, and gone with the last one held.

Never releases an address. A step that was done before does nothing, so a controller that dies in
between is followed by another one that goes on.
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
from core.domain.subnets.subnet_model import controlled
from core.errors import Refused
from core.kubernetes.informer import Informer
from ops.kubernetes.objects import ObjectWriter
from ops.kubernetes.resources import TranslatedKind, is_leaving, stored
from ops.kubernetes.translator_commands import Commands


class ObjectFinalizer:
    """Takes what the log has of an object away, as far as that is possible now."""

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
        """Why it is not gone yet, "" when it is. Raises ApiError, StoreError, NotReady."""
        if stored(self._commands.ledger, kind, name) is None:
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
            # Somebody was quicker: gone, or in use after all. The next look knows which.
            return str(error)

    def may_go_on(self, kind: TranslatedKind, name: str) -> bool:
        """Whether nothing that the projection knows of holds it any longer."""
        if kind is TranslatedKind.SUBNET:
            return not controlled(name, self._commands.ledger.pools)
        return not self._held(name)

    async def _drain_pool(self, name: str) -> str:
        await self._commands.apply(RetirePool(name))
        if held := self._held(name):
            return f"{held} {'address is' if held == 1 else 'addresses are'} still held"
        await self._commands.apply(DeletePool(name))
        return ""

    async def _drain_subnet(self, name: str) -> str:
        await self._commands.apply(RetireSubnet(name))
        for pool in controlled(name, self._commands.ledger.pools):
            one = self._informers[TranslatedKind.POOL].objects.get(("", pool.name))
            if one is None:
                await self._drain_pool(pool.name)
            elif not is_leaving(one):
                await self._objects.delete(TranslatedKind.POOL, one)
        left = [pool.name for pool in controlled(name, self._commands.ledger.pools)]
        if left:
            return f"pools still there: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}"
        await self._commands.apply(DeleteSubnet(name))
        return ""

    def _held(self, pool: str) -> int:
        tally = self._commands.projector.projection.tallies.get(pool)
        return tally.counts.claimed if tally else 0
