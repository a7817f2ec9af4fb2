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

    def __init__(self, advertiser: DeviceAdvertiser, supervisor: Supervisor) -> None:
        self._advertiser = advertiser
        self._supervisor = supervisor
        supervisor.start(TaskSpec(TASK, advertiser.run))

    @classmethod
    def joined(
        cls,
        settings: DeviceSettings,
        facts: FactsSource,
        executor: NetnsExecutor,
        metrics: AgentMetrics,
        supervisor: Supervisor,
    ) -> Self:
        """Begin; kubelet need not be there yet."""
        node_view = NodeView(
            lambda: facts.node().labels if facts.node().known else None, lambda: nics(executor)
        )
        advertiser = DeviceAdvertiser(settings.rules, settings.kubelet / DIRECTORY, node_view)
        _observe(advertiser, metrics)
        return cls(advertiser, supervisor)

    async def close(self) -> None:
        """End; Pods keep what they have."""
        await self._supervisor.end(TASK)
        await self._advertiser.close()


def _observe(advertiser: DeviceAdvertiser, metrics: AgentMetrics) -> None:
    plugins, counts = advertiser.plugins, advertiser.counts
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
    metrics.gauge("devices_faults", "What does not work now", lambda: len(advertiser.faults))
    metrics.counter("devices_rounds", "Looks at labels and NICs", lambda: advertiser.rounds)
    metrics.counter(
        "devices_registrations", "Registrations at kubelet", lambda: counts.registrations
    )
    metrics.counter("devices_allocations", "Pods that got slots", lambda: counts.allocations)
    metrics.counter("devices_refusals", "Slots asked for that are none", lambda: counts.refusals)
