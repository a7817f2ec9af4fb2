"""The metrics of the jobs: scans, releases, changes of Pods, executions.

Every replica reports the scan's status, but counts only its own work. ``spiderpool_ip_gc_...``
does not count releases by scans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from opentelemetry.metrics import Observation

from core.process.openmetrics import Instruments
from ops.controller.observer import ControllerObserver
from workflows.jobs.job_host import JobHost
from workflows.jobs.reclaim.scan import ScanStatus


def observe_jobs(
    compatible: Instruments, ours: Instruments, jobs: JobHost, observer: ControllerObserver
) -> None:
    """``compatible``: for metrics with Spiderpool's names."""
    _observe_scan(ours, observer)
    ours.gauges(
        "orbweaver_workflow_open_executions",
        "Open executions in the shards of this replica; paused ones need an operator",
        lambda: _open_executions(jobs),
    )
    ours.counter(
        "orbweaver_reclaim_addresses", "Reclaimed addresses", lambda: jobs.releases.released
    )
    ours.counter(
        "orbweaver_reclaim_failures", "Failed attempts to reclaim", lambda: jobs.releases.failed
    )
    compatible.counter(
        "spiderpool_ipam_release_update_ippool_conflict_counts",
        "Releases that lost a race with another writer",
        lambda: jobs.releases.lost,
    )
    compatible.counter(
        "spiderpool_ip_gc_counts",
        "Reclaimed addresses of single Pods",
        lambda: jobs.pods.released,
    )
    compatible.counter(
        "spiderpool_ip_gc_failure_counts",
        "Failed releases of single Pods",
        lambda: jobs.pods.failed,
    )
    ours.counters(
        "orbweaver_reclaim_news",
        "Changes of Pods: heard (received), begun (execution started), left (to scans)",
        lambda: _changes(jobs),
    )


def _observe_scan(ours: Instruments, observer: ControllerObserver) -> None:
    def observed(value: Callable[[ScanStatus], float]) -> Iterator[Observation]:
        status = observer.scan_status
        if status is not None and status.at_s:  # a scan has run
            yield Observation(value(status))

    values: tuple[tuple[str, str, Callable[[ScanStatus], float]], ...] = (
        (
            "scan_age_seconds",
            "Seconds since the last scan",
            lambda status: max(time.time() - status.at_s, 0.0),
        ),
        ("scan_failed", "1 if the last scan failed", lambda status: int(bool(status.fault))),
        (
            "paused",
            "1 while the scan is paused and needs an operator",
            lambda status: int(status.paused),
        ),
        (
            "kept_endpoints",
            "Endpoints that the last scan did not release, healthy ones included",
            lambda status: status.kept,
        ),
        (
            "failed_steps",
            "Releases that failed and wait for a retry",
            lambda status: status.failed_steps,
        ),
    )
    for name, description, value in values:
        ours.gauges(f"orbweaver_reclaim_{name}", description, partial(observed, value))


def _open_executions(jobs: JobHost) -> Iterator[Observation]:
    for status, count in jobs.worker.open_executions().items():
        yield Observation(count, {"status": status.value.lower()})


def _changes(jobs: JobHost) -> Iterator[Observation]:
    listener = jobs.listener
    counts = {"heard": listener.received, "begun": listener.started, "left": listener.dropped}
    for outcome, count in counts.items():
        yield Observation(count, {"outcome": outcome})
