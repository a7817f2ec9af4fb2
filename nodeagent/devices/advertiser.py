"""Keeps what is offered as rules, labels and NICs say, in the background.

Level-triggered: each round computes what shall be offered and makes it so, whatever happened
meanwhile. A fault is told once and tried again with the next round. Promise: labels or NICs that
cannot be read now withdraw nothing; one resource that does not work keeps no other from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.devices import DeviceRules, HostNic, SlotResource, offers
from core.errors import DatapathError
from nodeagent.devices.plugin import DevicePlugin, DevicePluginCounters

LOOK_S: Final = 5.0
"""Between two rounds."""

_NODE: Final = "this node"

_log: Final = logging.getLogger(__name__)


class NodeView(NamedTuple):
    """What is looked at: the node's labels (None: not known yet), and its NICs.

    ``nics`` may block, and raises DatapathError or OSError.
    """

    labels: Callable[[], Mapping[str, str] | None]
    nics: Callable[[], list[HostNic]]


class DeviceAdvertiser:
    """The plugins of one agent; ``run`` until cancelled, then ``close``."""

    def __init__(
        self, rules: DeviceRules, directory: Path, node_view: NodeView, look_s: float = LOOK_S
    ) -> None:
        self.counts = DevicePluginCounters()
        self.plugins: dict[str, DevicePlugin] = {}
        self.faults: dict[str, str] = {}
        self.rounds = 0
        self._rules = rules
        self._directory = directory
        self._node_view = node_view
        self._look_s = look_s

    async def run(self) -> None:
        """Look, and keep."""
        while True:
            await self._round()
            self.rounds += 1
            await asyncio.sleep(self._look_s)

    async def close(self) -> None:
        """End; Pods keep what they have."""
        await asyncio.gather(*(plugin.close() for plugin in self.plugins.values()))

    async def _round(self) -> None:
        faults: dict[str, str] = {}
        try:
            found = await asyncio.to_thread(self._node_view.nics)
            wanted = offers(self._rules, self._node_view.labels(), found)
            if wanted is None:
                faults[_NODE] = "its labels are not known yet"
            else:
                await self._take(wanted)
        except (DatapathError, OSError) as error:
            faults[_NODE] = str(error)
        kept = await asyncio.gather(*(plugin.keep() for plugin in self.plugins.values()))
        faults |= {name: fault for name, fault in zip(self.plugins, kept, strict=True) if fault}
        self._tell(faults)

    async def _take(self, wanted: Mapping[str, SlotResource]) -> None:
        for resource in [name for name in self.plugins if name not in wanted]:
            _log.info("%s is not offered any more", resource)
            await self.plugins.pop(resource).withdraw()
        for resource, offer in wanted.items():
            if resource in self.plugins:
                self.plugins[resource].offer(offer)
            else:
                plugin = DevicePlugin(resource, offer, self._directory, self.counts)
                self.plugins[resource] = plugin

    def _tell(self, faults: dict[str, str]) -> None:
        for name, fault in faults.items():
            if self.faults.get(name) != fault:
                _log.warning("slots of %s: %s", name, fault)
        for name, plugin in self.plugins.items():
            if name in self.faults and name not in faults:
                _log.info("kubelet has %d slots of %s", plugin.slots, name)
        self.faults = faults
