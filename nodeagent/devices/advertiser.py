"""Keeps the advertised resources up to date with rules, labels and NICs, in the background.

Level-triggered: each round computes the resources and applies the difference. A fault is logged
once and tried again in the next round. Labels or NICs that cannot be read withdraw nothing, and a
resource that fails does not affect the others.
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

ROUND_S: Final = 5.0
"""Seconds between two rounds."""

_NODE: Final = "this node"

_log: Final = logging.getLogger(__name__)


class NodeView(NamedTuple):
    """The node's labels (None: not known yet) and its NICs.

    ``nics`` may block, and raises DatapathError or OSError.
    """

    labels: Callable[[], Mapping[str, str] | None]
    nics: Callable[[], list[HostNic]]


class DeviceAdvertiser:
    """The plugins of one agent; ``run`` until cancelled, then ``close``."""

    def __init__(
        self, rules: DeviceRules, directory: Path, node_view: NodeView, round_s: float = ROUND_S
    ) -> None:
        self.counts = DevicePluginCounters()
        self.plugins: dict[str, DevicePlugin] = {}
        self.faults: dict[str, str] = {}
        self.rounds = 0
        self._rules = rules
        self._directory = directory
        self._node_view = node_view
        self._round_s = round_s

    async def run(self) -> None:
        """Run a round every ``ROUND_S``."""
        while True:
            await self._round()
            self.rounds += 1
            await asyncio.sleep(self._round_s)

    async def close(self) -> None:
        """Close all plugins; Pods keep their slots."""
        await asyncio.gather(*(plugin.close() for plugin in self.plugins.values()))

    async def _round(self) -> None:
        faults: dict[str, str] = {}
        try:
            nics = await asyncio.to_thread(self._node_view.nics)
            resources = offers(self._rules, self._node_view.labels(), nics)
            if resources is None:
                faults[_NODE] = "its labels are not known yet"
            else:
                await self._apply(resources)
        except (DatapathError, OSError) as error:
            faults[_NODE] = str(error)
        kept = await asyncio.gather(*(plugin.keep() for plugin in self.plugins.values()))
        faults |= {name: fault for name, fault in zip(self.plugins, kept, strict=True) if fault}
        self._report(faults)

    async def _apply(self, offers: Mapping[str, SlotResource]) -> None:
        for resource in [name for name in self.plugins if name not in offers]:
            _log.info("withdrew the resource %s from kubelet", resource)
            await self.plugins.pop(resource).withdraw()
        for resource, offer in offers.items():
            if resource in self.plugins:
                self.plugins[resource].offer(offer)
            else:
                plugin = DevicePlugin(resource, offer, self._directory, self.counts)
                self.plugins[resource] = plugin

    def _report(self, faults: dict[str, str]) -> None:
        for name, fault in faults.items():
            if self.faults.get(name) != fault:
                _log.warning("cannot advertise the slots of %s: %s", name, fault)
        for name, plugin in self.plugins.items():
            if name in self.faults and name not in faults:
                _log.info("advertised %d slots of %s to kubelet", plugin.slots, name)
        self.faults = faults
