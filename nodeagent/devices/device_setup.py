"""From settings to a device plugin at work: what is decided once, at the agent's start."""

from __future__ import annotations

from typing import Final, Self

from core.process.supervision import Supervisor, TaskSpec
from nodeagent.devices.advertiser import DeviceAdvertiser, NodeView
from nodeagent.devices.kubelet_api import DIRECTORY
from nodeagent.devices.nic_inventory import nics
from nodeagent.facts import FactsSource
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.settings.devices import DeviceSettings
from nodeagent.telemetry.metrics import AgentMetrics

TASK: Final = "device-plugin"
"""Its name at the supervisor."""


class Devices:
    """An offering at work, and what it tells of itself."""

    def __init__(self, offering: DeviceAdvertiser, supervisor: Supervisor) -> None:
        self._offering = offering
        self._supervisor = supervisor
        supervisor.start(TaskSpec(TASK, offering.run))

    @classmethod
    def joined(
        cls,
        settings: DeviceSettings,
        facts: FactsSource,
        visitor: NetnsExecutor,
        metrics: AgentMetrics,
        supervisor: Supervisor,
    ) -> Self:
        """Begin; kubelet need not be there yet."""
        sight = NodeView(
            lambda: facts.node().labels if facts.node().known else None, lambda: nics(visitor)
        )
        offering = DeviceAdvertiser(settings.rules, settings.kubelet / DIRECTORY, sight)
        _observe(offering, metrics)
        return cls(offering, supervisor)

    async def close(self) -> None:
        """End; Pods keep what they have."""
        await self._supervisor.end(TASK)
        await self._offering.close()


def _observe(offering: DeviceAdvertiser, metrics: AgentMetrics) -> None:
    plugins, counts = offering.plugins, offering.counts
    metrics.gauge(
        "devices_resources",
        "Resources that kubelet has from this agent",
        lambda: sum(one.is_registered for one in plugins.values()),
    )
    metrics.gauge(
        "devices_slots",
        "Slots of all of them",
        lambda: sum(one.slots for one in plugins.values() if one.is_registered),
    )
    metrics.gauge("devices_faults", "What does not work now", lambda: len(offering.faults))
    metrics.counter("devices_rounds", "Looks at labels and NICs", lambda: offering.rounds)
    metrics.counter(
        "devices_registrations", "Registrations at kubelet", lambda: counts.registrations
    )
    metrics.counter("devices_allocations", "Pods that got slots", lambda: counts.allocations)
    metrics.counter("devices_refusals", "Slots asked for that are none", lambda: counts.refusals)
