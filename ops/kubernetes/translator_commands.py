"""Applies the commands of the translator: decides on the projection first, then on etcd.

Most commands change nothing in the projection, and skip etcd. After a change ``apply`` waits for
the projection, so that the next decision includes the change.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.configuration.admission_records import AdmissionStore
from core.configuration.configurator import Configurator
from core.configuration.refusal_notes import RefusalNotes
from core.domain.configuration.admissions import admitted_value
from core.domain.configuration.commands import Command
from core.domain.configuration.configuration_state import Configuration, FeatureSwitches
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import Cause
from core.domain.evolution import Ledger
from core.errors import LostRace, NotReady, Refused, WriterFenced
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.projections.projector import Projector
from ops.kubernetes.settings import KubernetesSettings

WRITER: Final = controller_writer("kubernetes")
"""All controllers use this name, so that a new leader fences the former one."""

CAUSE: Final = Cause("orbweaver-controller/kubernetes")

PROJECTION_S_MAX: Final = 10.0


class Commands:
    """The translator's access to the log; call ``open`` first and ``close`` at the end.

    ``overtaken``: another controller leads. ``refused_pools``: pool -> reason of its refusal, which
    agents report; "" if the refusal was stored before ``open``.
    """

    def __init__(
        self, store: KeyValueStore, keys: Keys, projector: Projector, settings: KubernetesSettings
    ) -> None:
        self.overtaken = False
        self.projector = projector
        self._writer = Writer(store, keys, WRITER)
        self.refused_pools: dict[str, str] = {}
        self._admissions = AdmissionStore(store, keys)
        self._refusals = RefusalNotes(store, keys)
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
        """The state of the projection."""
        return self.projector.projection.ledger

    @property
    def configuration(self) -> Configuration:
        """The configuration on which commands are decided."""
        return Configuration.of(self.ledger, self._switches)

    async def open(self) -> None:
        """Take over the writer and wait for the projection. Raises StoreUnavailable, LostRace."""
        try:
            await self._writer.open()
        except WriterFenced as error:
            raise self._overtaken(error) from None
        self.refused_pools = dict.fromkeys(await self._refusals.names(), "")
        await self.projector.wait_for(lambda: self.projector.ready)

    async def close(self) -> None:
        """Wait for the writes in progress."""
        await self._writer.close()

    async def apply(self, command: Command) -> bool:
        """Apply a command; return whether it changed anything.

        Raises Refused, StoreError, NotReady, and LostRace if another controller leads.
        """
        if self._is_applied(command):
            return False
        try:
            result = await self._configurator.apply(command, CAUSE)
        except WriterFenced as error:
            raise self._overtaken(error) from None
        if not result.events:
            return False
        # The log has the object now, so its admission is not pending any more.
        value = admitted_value(command, result.events)
        if value is not None:
            await self._admissions.remove_written(value)
        try:
            async with asyncio.timeout(PROJECTION_S_MAX):
                await self.projector.wait_for(
                    lambda: self.projector.cursor.position >= result.revision
                )
        except TimeoutError:
            message = (
                f"a change was written at revision {result.revision} of etcd, and this controller"
                f" has not read it within {PROJECTION_S_MAX:g} s"
            )
            raise NotReady(message, remedy="check the latency of etcd") from None
        return True

    async def dry_run(self, command: Command) -> None:
        """Decide on a command, and write nothing. Raises Refused, StoreError."""
        await self._configurator.dry_run(command)

    async def note_refused(self, name: str, reason: str) -> None:
        """Store the refusal of a pool, which agents then report. Raises StoreError."""
        if self.refused_pools.get(name) != reason:
            await self._refusals.add(name, reason)
            self.refused_pools[name] = reason

    async def forget_refused(self, name: str) -> None:
        """Remove the refusal of a pool. Raises StoreError."""
        if name in self.refused_pools:
            await self._refusals.remove(name)
            del self.refused_pools[name]

    def _is_applied(self, command: Command) -> bool:
        """Whether the command changes nothing, whatever the claims are."""
        configuration = self.configuration
        if removed_addresses(configuration, command):  # depends on the claims in etcd
            return False
        try:
            # Without removed addresses no claim matters, so ``claimed`` may be empty.
            return not decide(configuration, command, claimed={})
        except Refused:
            return False

    def _overtaken(self, error: WriterFenced) -> LostRace:
        self.overtaken = True
        why = "another controller leads now and translates the custom resources"
        return LostRace(why, subject=error.subject)
