"""Starts the device plugin with the sources of offers that the settings enable."""

from __future__ import annotations

from typing import Final

from core.domain.slots import DeviceRules
from core.process.supervision import Supervisor, TaskSpec
from core.settings.device_plugin import DeviceSettings
from nodeagent.background_service import BackgroundService
from nodeagent.devices.device_advertiser import DeviceAdvertiser, OfferSource
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.pci_files import PciFiles
from nodeagent.devices.shared_rdma_offers import SharedRdmaSource
from nodeagent.devices.slot_offers import NodeView, SlotSource, host_nics
from nodeagent.devices.vf_offers import VfInventory, VfSource
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.pod_facts import FactsSource, node_labels
from nodeagent.telemetry.metrics import AgentMetrics

TASK: Final = "device-plugin"


def start_device_plugin(
    settings: DeviceSettings,
    facts: FactsSource,
    executor: NetnsExecutor,
    metrics: AgentMetrics,
    supervisor: Supervisor,
    vf_inventory: VfInventory | None = None,
    pci: PciFiles = PciFiles(),  # immutable
) -> BackgroundService:
    """Start to advertise devices. kubelet may start after the agent.

    Without ``vf_inventory``, no virtual functions are advertised.
    """
    sources: list[OfferSource] = []
    if settings.rules != DeviceRules():
        node_view = NodeView(lambda: node_labels(facts), lambda: host_nics(executor))
        sources.append(SlotSource(settings.rules, node_view))
    if settings.vf_prefix and vf_inventory is not None:
        sources.append(VfSource(lambda: vf_inventory.vfs_by_resource, settings.vf_prefix, pci))
    if settings.rdma_config is not None:
        sources.append(SharedRdmaSource(settings.rdma_config, pci.sysfs))
    advertiser = DeviceAdvertiser(sources, settings.kubelet / PLUGINS_DIRECTORY)
    if vf_inventory is not None:
        vf_inventory.listen(advertiser.wake)
    _register_metrics(advertiser, metrics)
    return BackgroundService(supervisor, TaskSpec(TASK, advertiser.run), advertiser.close)


def _register_metrics(advertiser: DeviceAdvertiser, metrics: AgentMetrics) -> None:
    plugins, counts = advertiser.plugins, advertiser.counts
    metrics.gauge(
        "devices_resources",
        "Resources of this agent that are registered at kubelet",
        lambda: sum(plugin.is_registered for plugin in plugins.values()),
    )
    metrics.gauge(
        "devices_slots",
        "Slots and other devices of all registered resources",
        lambda: sum(plugin.size for plugin in plugins.values() if plugin.is_registered),
    )
    metrics.gauge(
        "devices_faults",
        "Resources, and sources of devices, that cannot be advertised now",
        lambda: len(advertiser.faults),
    )
    metrics.counter(
        "devices_rounds",
        "Rounds in which the agent read the devices of its node and advertised them",
        lambda: advertiser.rounds,
    )
    metrics.counter(
        "devices_registrations", "Registrations at kubelet", lambda: counts.registrations
    )
    metrics.counter(
        "devices_allocations", "Allocations of devices for kubelet", lambda: counts.allocations
    )
    metrics.counter(
        "devices_refusals",
        "Allocations refused for unknown or unreadable devices",
        lambda: counts.refusals,
    )
