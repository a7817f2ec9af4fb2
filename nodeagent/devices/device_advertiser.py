"""Advertises the node's devices to kubelet.

A round reads all sources and registers their resources. If a source cannot be read, its resources
stay advertised. A new kubelet socket starts a round, because a restarted kubelet has no
registrations.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from core.domain.device_allocation import Offer
from core.domain.slots import resource_fault
from core.domain.validation.common_rules import counted
from core.errors import DatapathError
from nodeagent.devices.device_plugin import DevicePlugin, DevicePluginCounters, file_identity
from nodeagent.devices.kubelet_api import KUBELET_SOCKET

ROUND_S: Final = 5.0

KUBELET_POLL_S: Final = 0.25

RESOURCES_MAX: Final = 256
"""Each resource needs a server, a socket and a stream to kubelet."""

_FURTHER_RESOURCES: Final = "further resources of this node"

_log: Final = logging.getLogger(__name__)


class OfferSource(Protocol):
    """A source of offers. An offer is the devices of one resource."""

    @property
    def name(self) -> str: ...

    async def read(self) -> Mapping[str, Offer] | None:
        """Offers by resource; None: not known yet. Raises DatapathError, OSError."""
        ...


class DeviceAdvertiser:
    """The device plugins of one agent. After ``run`` is cancelled, call ``close``."""

    def __init__(
        self, sources: Sequence[OfferSource], directory: Path, round_s: float = ROUND_S
    ) -> None:
        self.counts = DevicePluginCounters()
        self.plugins: dict[str, DevicePlugin] = {}
        self.faults: dict[str, str] = {}
        self.rounds = 0
        self._sources = sources
        self._offers: dict[str, Mapping[str, Offer]] = {}
        self._directory = directory
        self._kubelet = directory / KUBELET_SOCKET
        self._round_s = round_s
        self._is_woken = False

    def wake(self) -> None:
        """Start the next round within ``KUBELET_POLL_S``."""
        self._is_woken = True

    async def run(self) -> None:
        """Run a round periodically, when kubelet starts, and after ``wake``."""
        while True:
            kubelet = file_identity(self._kubelet)
            self._is_woken = False
            await self._round()
            self.rounds += 1
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # To stop a server, grpc calls asyncio.wait_for, which may swallow a cancellation.
                raise asyncio.CancelledError
            deadline = time.monotonic() + self._round_s
            while not self._is_woken and (left_s := deadline - time.monotonic()) > 0:
                await asyncio.sleep(min(left_s, KUBELET_POLL_S))
                if file_identity(self._kubelet) not in (None, kubelet):
                    break

    async def close(self) -> None:
        """Close all plugins. Running Pods keep their devices."""
        await asyncio.gather(*(plugin.close() for plugin in self.plugins.values()))

    async def _round(self) -> None:
        faults: dict[str, str] = {}
        for source in self._sources:
            try:
                offers = await source.read()
            except (DatapathError, OSError) as error:
                faults[source.name] = str(error)
                continue
            if offers is None:
                faults[source.name] = "the node's labels or virtual functions are not known yet"
            else:
                self._offers[source.name] = offers
        await self._apply(self._offers_by_resource(faults))
        plugin_faults = await asyncio.gather(
            *(plugin.keep_registered() for plugin in self.plugins.values())
        )
        faults |= {
            name: fault for name, fault in zip(self.plugins, plugin_faults, strict=True) if fault
        }
        self._report(faults)

    def _offers_by_resource(self, faults: dict[str, str]) -> dict[str, Offer]:
        """One offer for each resource. Adds a text to ``faults`` for each rejected offer."""
        offers_by_resource: dict[str, Offer] = {}
        for source, offers in self._offers.items():
            for resource, offer in offers.items():
                if fault := resource_fault(resource):
                    faults[resource] = fault
                elif resource in offers_by_resource:
                    text = f"{source} and another source offer a resource of this name"
                    faults[resource] = f"{text}; rename one of the two resources"
                elif len(offers_by_resource) == RESOURCES_MAX:
                    text = f"only {RESOURCES_MAX} resources are advertised, and there are more"
                    faults[_FURTHER_RESOURCES] = f"{text}; remove resources that no Pod requests"
                else:
                    offers_by_resource[resource] = offer
        return offers_by_resource

    async def _apply(self, offers: Mapping[str, Offer]) -> None:
        for resource in [name for name in self.plugins if name not in offers]:
            _log.info("withdrew the resource %s from kubelet", resource)
            await self.plugins[resource].withdraw()
            del self.plugins[resource]
        for resource, offer in offers.items():
            if resource in self.plugins:
                self.plugins[resource].replace_offer(offer)
            else:
                plugin = DevicePlugin(resource, offer, self._directory, self.counts)
                self.plugins[resource] = plugin

    def _report(self, faults: dict[str, str]) -> None:
        for name, fault in faults.items():
            if self.faults.get(name) != fault:
                _log.warning("cannot advertise %s: %s", name, fault)
        for name, plugin in self.plugins.items():
            if name in self.faults and name not in faults:
                _log.info("advertised %s of %s to kubelet", counted(plugin.size, "device"), name)
        self.faults = faults
