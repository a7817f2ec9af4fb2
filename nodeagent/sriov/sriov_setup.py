"""Starts the reconciler of virtual functions from its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.allocation.guid_registry import GuidRegistry
from core.process.supervision import Supervisor, TaskSpec
from core.settings.sriov import SriovSettings
from nodeagent.background_service import BackgroundService
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov.guid_keeper import GuidKeeper
from nodeagent.sriov.node_hardware import NodeHardware
from nodeagent.sriov.reconciler import PolicySource, SriovReconciler
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.telemetry.metrics import AgentMetrics

TASK: Final = "sriov"


class SriovService(BackgroundService):
    """Runs the reconciler. Closing the service does not change virtual functions."""

    def __init__(self, supervisor: Supervisor, reconciler: SriovReconciler) -> None:
        super().__init__(supervisor, TaskSpec(TASK, reconciler.run))
        self.reconciler = reconciler


def start_sriov(
    settings: SriovSettings,
    sysfs: Path,
    source: PolicySource,
    guids: GuidRegistry,
    server: str,
    executor: NetnsExecutor,
    metrics: AgentMetrics,
    supervisor: Supervisor,
) -> SriovService:
    """Start to carry out the policies of ``source``.

    ``sysfs``: a writable mount of the node's /sys. ``server``: the API server's URL.
    """
    hardware = NodeHardware(settings, Sysfs(sysfs), executor, server)
    reconciler = SriovReconciler(settings, source, hardware, GuidKeeper(guids))
    _register_metrics(reconciler, metrics)
    return SriovService(supervisor, reconciler)


def _register_metrics(reconciler: SriovReconciler, metrics: AgentMetrics) -> None:
    metrics.gauge(
        "sriov_virtual_functions",
        "Virtual functions of this node that are part of a resource",
        lambda: sum(map(len, (reconciler.vfs_by_resource or {}).values())),
    )
    metrics.gauge(
        "sriov_faults",
        "1 if virtual functions differ from the policies, else 0",
        lambda: int(bool(reconciler.fault)),
    )
    metrics.counter(
        "sriov_rounds",
        "Rounds in which the agent compared the virtual functions of its node with the policies",
        lambda: reconciler.rounds,
    )
    metrics.counter(
        "sriov_actions", "Changes of virtual functions and their NICs", lambda: reconciler.actions
    )
