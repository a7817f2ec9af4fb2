"""Starts the device plugin from its settings, and reads the node's NICs for its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.domain.devices import HostNic
from core.process.supervision import Supervisor, TaskSpec
from core.settings.device_plugin import DeviceSettings
from nodeagent.background_service import BackgroundService
from nodeagent.devices.advertiser import DeviceAdvertiser, NodeView
from nodeagent.devices.kubelet_api import DIRECTORY
from nodeagent.facts import FactsSource
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.telemetry.metrics import AgentMetrics

TASK: Final = "device-plugin"
"""The name of its supervised task."""

LINKS: Final = Path("/sys/class/net")


def start_device_plugin(
    settings: DeviceSettings,
    facts: FactsSource,
    executor: NetnsExecutor,
    metrics: AgentMetrics,
    supervisor: Supervisor,
) -> BackgroundService:
    """Start to advertise; kubelet may start later. After ``close`` Pods keep their slots."""
    node_view = NodeView(
        lambda: facts.node().labels if facts.node().known else None, lambda: host_nics(executor)
    )
    advertiser = DeviceAdvertiser(settings.rules, settings.kubelet / DIRECTORY, node_view)
    _register_metrics(advertiser, metrics)
    return BackgroundService(supervisor, TaskSpec(TASK, advertiser.run), advertiser.close)


def host_nics(executor: NetnsExecutor, links: Path = LINKS) -> list[HostNic]:
    """Every link of the node, with or without a device in /sys. Raises DatapathError, OSError."""
    with executor.session(executor.home) as session:
        return [
            HostNic(link.name, (links / link.name / "device").exists(), link.loopback)
            for link in session.links()
        ]


def _register_metrics(advertiser: DeviceAdvertiser, metrics: AgentMetrics) -> None:
    plugins, counts = advertiser.plugins, advertiser.counts
    metrics.gauge(
        "devices_resources",
        "Resources of this agent that are registered at kubelet",
        lambda: sum(plugin.is_registered for plugin in plugins.values()),
    )
    metrics.gauge(
        "devices_slots",
        "Slots of all registered resources",
        lambda: sum(plugin.slots for plugin in plugins.values() if plugin.is_registered),
    )
    metrics.gauge(
        "devices_faults", "Faults of the device plugin now", lambda: len(advertiser.faults)
    )
    metrics.counter(
        "devices_rounds", "Reads of the node's labels and NICs", lambda: advertiser.rounds
    )
    metrics.counter(
        "devices_registrations", "Registrations at kubelet", lambda: counts.registrations
    )
    metrics.counter(
        "devices_allocations", "Pods that were allocated slots", lambda: counts.allocations
    )
    metrics.counter(
        "devices_refusals", "Allocations refused for unknown slots", lambda: counts.refusals
    )
