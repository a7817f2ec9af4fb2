"""Starts the reconciler of RoCE quality of service, and registers its metrics."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from core.domain.roce_qos.qos_model import RoceQosRule
from core.process.supervision import Supervisor, TaskSpec
from nodeagent.background_service import BackgroundService
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.pod_facts import FactsSource, node_labels
from nodeagent.roce_qos.qos_files import QosFiles
from nodeagent.roce_qos.qos_reconciler import QosReconciler
from nodeagent.roce_qos.roce_nics import RoceNics
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.telemetry.metrics import AgentMetrics

TASK: Final = "roce-qos"

_NIC_LABEL: Final = "net_dev_name"


def start_roce_qos(
    rules: Collection[RoceQosRule],
    sysfs: Path,
    facts: FactsSource,
    executor: NetnsExecutor,
    metrics: AgentMetrics,
    supervisor: Supervisor,
) -> BackgroundService:
    """Start to apply rules. ``sysfs``: a writable mount of the node's /sys.

    Closing the service does not change the NICs.
    """
    hardware = RoceNics(executor, QosFiles(Sysfs(sysfs)))
    reconciler = QosReconciler(rules, lambda: node_labels(facts), hardware)
    _register_metrics(reconciler, metrics)
    return BackgroundService(supervisor, TaskSpec(TASK, reconciler.run))


def _register_metrics(reconciler: QosReconciler, metrics: AgentMetrics) -> None:
    metrics.gauge_by(
        _NIC_LABEL,
        "roce_qos_faults",
        "RoCE QoS settings that could not be applied, per NIC that a rule selects",
        reconciler.faults_by_nic,
    )
    metrics.gauge_by(
        _NIC_LABEL,
        "roce_qos_gaps",
        "RoCE QoS settings that the driver does not support, per NIC that a rule selects",
        reconciler.gaps_by_nic,
    )
    metrics.counter(
        "roce_qos_rounds",
        "Rounds in which the agent compared the RoCE NICs of its node with the rules",
        lambda: reconciler.rounds,
    )
    metrics.counter(
        "roce_qos_changes",
        "Changes of QoS settings of RoCE NICs",
        lambda: reconciler.changes,
    )
