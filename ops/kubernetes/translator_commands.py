"""Commands of the translator: tried on the projection first, then on the truth, then awaited.

Almost every look at a custom resource finds that nothing is to be done. That is decided on the
projection, which costs no read of etcd; what would change something, or be refused, is decided
again on the truth. After a change the projection is awaited, so that the next decision knows it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.configuration.configurator import Configurator
from core.configuration.pending_admissions import Admissions
from core.configuration.refusal_notes import Refusals
from core.domain.configuration.admissions import admitted_value
from core.domain.configuration.commands import Command
from core.domain.configuration.configuration_state import Configuration, FeatureSwitches
from core.domain.configuration.decisions import decide, given_up
from core.domain.events import Cause
from core.domain.evolution import Ledger
from core.errors import LostRace, NotReady, Refused, WriterFenced
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.projections.projector import Projector
from ops.kubernetes.settings import KubernetesSettings

WRITER: Final = controller_writer("kubernetes")
"""One name for all controllers: who leads now fences who led before."""

CAUSE: Final = Cause("orbweaver-controller/kubernetes")

LEVEL_S_MAX: Final = 10.0
"""How long the projection may take to know what was just written."""


class Commands:
    """The log, as the translator sees and changes it. Open it first, close it at the end.

    ``overtaken``: another controller writes now, and nothing will be written here any more.
    ``refused_pools``: pools that agents know to be refused, and why ("" from before the start).
    """

    def __init__(
        self, store: KeyValueStore, keys: Keys, projector: Projector, settings: KubernetesSettings
    ) -> None:
        self.applied = 0
        self.overtaken = False
        self.projector = projector
        self._writer = Writer(store, keys, WRITER)
        self.refused_pools: dict[str, str] = {}
        self._admissions = Admissions(store, keys)
        self._refusals = Refusals(store, keys)
        self._switches = FeatureSwitches(
            settings.ipv4_enabled, settings.ipv6_enabled, settings.subnets_enabled
        )
        self._configurator = Configurator(
            store,
            keys,
            self._writer,
            ipv4_enabled=settings.ipv4_enabled,
            ipv6_enabled=settings.ipv6_enabled,
            subnets_enabled=settings.subnets_enabled,
        )

    @property
    def ledger(self) -> Ledger:
        """What the projection has now."""
        return self.projector.projection.ledger

    @property
    def configuration(self) -> Configuration:
        """The same as commands are decided on."""
        return Configuration.of(self.ledger, self._switches)

    async def open(self) -> None:
        """Take the writer over and wait for the projection. Raises StoreUnavailable, LostRace."""
        try:
            await self._writer.open()
        except WriterFenced as error:
            raise self._overtaken(error) from None
        self.refused_pools = dict.fromkeys(await self._refusals.names(), "")
        await self.projector.wait_for(lambda: self.projector.ready)

    async def close(self) -> None:
        """Let what is in flight come to an end."""
        await self._writer.close()

    async def apply(self, command: Command) -> bool:
        """Whether it changed something. Raises Refused, StoreError, NotReady.

        LostRace also when another controller has taken over.
        """
        if self._is_so_already(command):
            return False
        try:
            done = await self._configurator.apply(command, CAUSE)
        except WriterFenced as error:
            raise self._overtaken(error) from None
        if not done.events:
            return False
        self.applied += 1
        value = admitted_value(command, done.events)
        if value is not None:
            await self._admissions.settle(value)
        try:
            async with asyncio.timeout(LEVEL_S_MAX):
                await self.projector.wait_for(
                    lambda: self.projector.cursor.position >= done.revision
                )
        except TimeoutError:
            message = f"the projection has not come to revision {done.revision}"
            raise NotReady(message, remedy="check the latency of etcd") from None
        return True

    async def note_refused(self, name: str, why: str) -> None:
        """Let agents know why a pool is not in the log. Raises StoreError."""
        if self.refused_pools.get(name) != why:
            await self._refusals.add(name, why)
            self.refused_pools[name] = why

    async def forget_refused(self, name: str) -> None:
        """The pool is not refused any more, or not there. Raises StoreError."""
        if name in self.refused_pools:
            await self._refusals.remove(name)
            del self.refused_pools[name]

    def _is_so_already(self, command: Command) -> bool:
        """Whether the projection shows nothing to do; what it does not know for sure is no."""
        configuration = self.configuration
        if given_up(configuration, command):
            return False
        try:
            return not decide(configuration, command, {})
        except Refused:
            return False

    def _overtaken(self, error: WriterFenced) -> LostRace:
        self.overtaken = True
        return LostRace("another controller translates now", subject=error.subject)
