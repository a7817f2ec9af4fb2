"""The agent: its parts, the order in which they start, and the order in which they end.

Start: sockets (callers hear "not ready" rather than "refused"), writer, view; ready when all are.
End: no new callers, those inside finish within DRAIN_S_MAX, then writer, view, store. Composition
only: it decides nothing.
"""

from __future__ import annotations

import logging
from typing import Final

from core.projections.configuration_view import ConfigurationView
from core.service.allocator import Allocator, AllocatorSettings
from core.service.cooldown import CoolDown
from core.service.releaser import Releaser
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.writer import Writer
from nodeagent.doors.cni import CniDoor
from nodeagent.doors.framed import FramedDoor
from nodeagent.doors.sockets import BACKLOG, ListeningSocket
from nodeagent.facts import FactsSource, StandaloneFacts
from nodeagent.gate import Gate
from nodeagent.health import Health
from nodeagent.settings.values import Settings
from nodeagent.verbs.adding import Adding
from nodeagent.verbs.deleting import Deleting

DRAIN_S_MAX: Final = 20.0
"""How long callers inside may take after SIGTERM: below the 30 s that supervisors wait."""

_log: Final = logging.getLogger(__name__)


class Agent:
    """One node agent over one store. Make it inside the event loop that runs it."""

    def __init__(
        self, settings: Settings, store: KeyValueStore, facts: FactsSource | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.keys = Keys(settings.cluster)
        self.writer = Writer(store, self.keys, settings.node_name)
        self.view = ConfigurationView(store, self.keys)
        self.gate = Gate()
        self.health = Health(self.view, self.writer)
        cooldown = CoolDown(store, settings.cool_down_s)
        releaser = Releaser(store, self.keys, self.writer, cooldown)
        allocator = Allocator(
            store,
            self.keys,
            self.writer,
            self.view,
            releaser,
            cooldown,
            AllocatorSettings(settings.address_order, settings.records_max, settings.selection),
        )
        facts = facts or StandaloneFacts(
            self.view, settings.node_name, stateful_sets=settings.stateful_sets
        )
        actor = settings.actor
        self._cni = CniDoor(
            self.gate,
            self.health,
            Adding(allocator, facts, actor),
            Deleting(releaser, facts, actor),
        )
        self._framed = FramedDoor(self._cni.answer)
        self._sockets: list[ListeningSocket] = []

    async def start(self) -> None:
        """Open the doors, then become ready. Raises StoreUnavailable, BadInput, WriterFenced."""
        framed = ListeningSocket(self.settings.framed_socket_path)
        self._sockets.append(framed)
        await self._framed.open(framed.socket, BACKLOG)
        await self.writer.open()
        await self.view.start()
        _log.info("ready: node %s, epoch %d", self.settings.node_name, self.writer.epoch)

    async def stop(self) -> None:
        """Drain and close everything; the store is closed too."""
        self._framed.close()
        for each in self._sockets:
            each.remove()
        if not await self.gate.drain(DRAIN_S_MAX):
            _log.warning("%d requests did not end in time", self.gate.under_way)
        await self._framed.end()
        await self.view.close()
        await self.writer.close()
        await self.store.close()
