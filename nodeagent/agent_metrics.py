"""Metrics that a scrape reads from the parts of the agent."""

from __future__ import annotations

from core.process.connections import ConnectionCounts
from nodeagent.composition import AgentParts
from nodeagent.conflict_detection.detector import DetectionCounters
from nodeagent.telemetry.metrics import AgentMetrics


def register_agent_metrics(parts: AgentParts) -> None:
    """Register the metrics of an agent. Call it once."""
    _register_metrics_of_parts(parts)
    _register_server_metrics(parts.metrics, parts.connections)
    _register_detection_metrics(parts.metrics, parts.detector.counts)


def _register_metrics_of_parts(parts: AgentParts) -> None:
    metrics, writer = parts.metrics, parts.writer
    metrics.gauge(
        "requests_under_way",
        "Requests in progress, waiting ones included",
        lambda: parts.runner.requests_under_way,
    )
    metrics.gauge(
        "ready",
        "1 if this agent serves CNI calls, else 0",
        lambda: int(parts.health.why_not_healthy() is None),
    )
    metrics.gauge(
        "coordinator_ready",
        "1 if the SpiderCoordinator is known and its phase is Synced, else 0",
        lambda: int(parts.coordinator_handler.fault() is None),
    )
    metrics.gauge(
        "writer_queue_depth",
        "Requests whose events wait to be committed to etcd",
        lambda: writer.depth,
    )
    metrics.gauge(
        "writer_epoch",
        "Epoch of this agent's event writer; each start of the agent raises it",
        lambda: writer.epoch,
    )
    metrics.counter(
        "writer_transactions", "etcd transactions with events", lambda: writer.transactions
    )
    metrics.counter(
        "refusals_dropped",
        "Refused ADDs not recorded in the event log: there were too many, or etcd failed",
        lambda: parts.refusal_recorder.dropped,
    )
    metrics.counter(
        "task_restarts",
        "Restarts of supervised tasks",
        lambda: parts.supervisor.restarts,
    )
    metrics.gauge_by(
        "kind",
        "contained_faults",
        "Objects that this agent cannot read and skips",
        parts.view.faults.by_kind,
    )
    metrics.gauge(
        "view_revision",
        "etcd revision of the configuration view",
        lambda: parts.view.current.revision,
    )
    metrics.counter(
        "plugin_log_dropped_lines",
        "Lines that the plugin log lost: its queue was full, or the file could not be written",
        lambda: parts.plugin_log.dropped,
    )


def _register_server_metrics(metrics: AgentMetrics, counts: ConnectionCounts) -> None:
    metrics.counter(
        "connections_refused",
        "Connections refused because of a limit or missing rights",
        lambda: counts.refused,
    )
    metrics.counter(
        "connections_timed_out",
        "Connections closed because no request arrived in time",
        lambda: counts.timed_out,
    )
    metrics.counter(
        "requests_malformed", "Requests that are not valid HTTP", lambda: counts.malformed
    )
    metrics.counter(
        "requests_abandoned",
        "Requests dropped because the caller closed its connection before they started",
        lambda: counts.abandoned,
    )


def _register_detection_metrics(metrics: AgentMetrics, counts: DetectionCounters) -> None:
    metrics.counter(
        "detection_looks",
        "NICs whose addresses were probed for conflicts or whose gateways were probed",
        lambda: counts.probes,
    )
    metrics.counter(
        "detection_strangers",
        "Allocated addresses that another host uses",
        lambda: counts.conflicts,
    )
    metrics.counter(
        "detection_silent_gateways",
        "Gateways that did not answer a probe",
        lambda: counts.silent_gateways,
    )
    metrics.counter("detection_failures", "NICs that could not be probed", lambda: counts.failures)
