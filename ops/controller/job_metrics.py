"""The metrics of the jobs: scans, releases, changes of Pods, executions.

Every replica reports the status of the scan, which is in etcd. Counters are those of one process;
Prometheus adds them up. Metrics with Spiderpool's names (docs/reference/metrics.md) count the same
as there: releases of single Pods, but not those of scans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from ops.controller.observer import ControllerObserver
from workflows.jobs.job_host import JobHost
from workflows.jobs.reclaim.scan import ScanStatus

Values = Callable[[], Iterable[Observation]]


def observe_jobs(
    compatible: Meter, ours: Meter, jobs: JobHost, observer: ControllerObserver
) -> None:
    """Create the instruments of the jobs: in ``compatible`` those with Spiderpool's names."""
    for name, description, value in (
        ("scan_age_seconds", "Seconds since the last scan", _age_s),
        ("scan_failed", "1 if the last scan failed", lambda status: int(bool(status.fault))),
        (
            "paused",
            "1 while the scan is paused and needs an operator",
            lambda status: int(status.paused),
        ),
        ("kept_endpoints", "Endpoints that the last scan kept", lambda status: status.kept),
        (
            "failed_steps",
            "Releases that failed and wait for a retry",
            lambda status: status.failed_steps,
        ),
    ):
        ours.create_observable_gauge(
            f"orbweaver_reclaim_{name}",
            [_callback(_scan_values(observer, value))],
            description=description,
        )
    ours.create_observable_gauge(
        "orbweaver_workflow_open_executions",
        [_callback(lambda: _open_executions(jobs))],
        description="Open executions in the shards of this replica; paused ones need an operator",
    )
    counts: tuple[tuple[Meter, str, str, Callable[[], int]], ...] = (
        (
            ours,
            "orbweaver_reclaim_addresses",
            "Reclaimed addresses",
            lambda: jobs.releases.released,
        ),
        (
            ours,
            "orbweaver_reclaim_failures",
            "Failed attempts to reclaim",
            lambda: jobs.releases.failed,
        ),
        (
            compatible,
            "spiderpool_ipam_release_update_ippool_conflict_counts",
            "Releases that lost a race with another writer",
            lambda: jobs.releases.lost,
        ),
        (
            compatible,
            "spiderpool_ip_gc_counts",
            "Reclaimed addresses of single Pods",
            lambda: jobs.pods.released,
        ),
        (
            compatible,
            "spiderpool_ip_gc_failure_counts",
            "Failed releases of single Pods",
            lambda: jobs.pods.failed,
        ),
    )
    for meter, name, description, count in counts:
        meter.create_observable_counter(
            name, [_callback(_single_value(count))], description=description
        )
    ours.create_observable_counter(
        "orbweaver_reclaim_news",
        [_callback(lambda: _changes(jobs))],
        description="Changes of Pods: heard (received), begun (execution started), left (to scans)",
    )


def _age_s(status: ScanStatus) -> float:
    return max(time.time() - status.at_s, 0.0)


def _scan_values(observer: ControllerObserver, value: Callable[[ScanStatus], float]) -> Values:
    """A value of the last scan; none before the first scan, because its age would be wrong."""

    def values() -> Iterator[Observation]:
        status = observer.reclaim
        if status is not None and status.at_s:
            yield Observation(value(status))

    return values


def _open_executions(jobs: JobHost) -> Iterator[Observation]:
    for status, count in jobs.worker.open_executions().items():
        yield Observation(count, {"status": status.value.lower()})


def _changes(jobs: JobHost) -> Iterator[Observation]:
    listener = jobs.listener
    counts = {"heard": listener.received, "begun": listener.started, "left": listener.dropped}
    for outcome, count in counts.items():
        yield Observation(count, {"outcome": outcome})


def _single_value(count: Callable[[], int]) -> Values:
    return lambda: [Observation(count())]


def _callback(values: Values) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: list(values())
