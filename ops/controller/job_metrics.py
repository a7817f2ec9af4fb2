"""What Prometheus scrapes about the hosted jobs: scans, releases, news, executions.

The scan is told by every replica alike, since its state lies in etcd; counts are those of one
process, and Prometheus adds them up. Compatible names (docs/reference/metrics.md) count what they
count there: releases of single Pods, without those of scans.
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
    compatible: Meter, ours: Meter, jobs: JobHost, observing: ControllerObserver
) -> None:
    """Make the instruments."""
    for name, words, value in (
        ("scan_age_seconds", "Since the last look at everything", _age_s),
        ("scan_failed", "1 if the last look failed", lambda one: int(bool(one.fault))),
        ("paused", "1 while the scan waits for a person", lambda one: int(one.paused)),
        ("kept_endpoints", "Endpoints that the last look kept", lambda one: one.kept),
        ("failed_steps", "Releases that failed and wait", lambda one: one.failed_steps),
    ):
        ours.create_observable_gauge(
            f"orbweaver_reclaim_{name}", [_called(_standing(observing, value))], description=words
        )
    ours.create_observable_gauge(
        "orbweaver_workflow_open_executions",
        [_called(lambda: _open(jobs))],
        description="Executions in the shards of this replica; paused ones wait for a person",
    )
    counts: tuple[tuple[Meter, str, str, Callable[[], int]], ...] = (
        (ours, "orbweaver_reclaim_addresses", "Reclaimed", lambda: jobs.releases.released),
        (ours, "orbweaver_reclaim_failures", "Failed tries", lambda: jobs.releases.failed),
        (
            compatible,
            "spiderpool_ipam_release_update_ippool_conflict_counts",
            "Races that reclaiming has lost",
            lambda: jobs.releases.lost,
        ),
        (compatible, "spiderpool_ip_gc_counts", "Of single Pods", lambda: jobs.pods.released),
        (compatible, "spiderpool_ip_gc_failure_counts", "Failed", lambda: jobs.pods.failed),
    )
    for meter, name, words, count in counts:
        meter.create_observable_counter(name, [_called(_one(count))], description=words)
    ours.create_observable_counter(
        "orbweaver_reclaim_news",
        [_called(lambda: _news(jobs))],
        description="Changes of Pods: heard, begun (execution started), left (to the next scan)",
    )


def _age_s(standing: ScanStatus) -> float:
    return max(time.time() - standing.at_s, 0.0)


def _standing(observing: ControllerObserver, value: Callable[[ScanStatus], float]) -> Values:
    """Nothing before the first scan: an age of fifty years would wake somebody."""

    def values() -> Iterator[Observation]:
        found = observing.reclaim
        if found is not None and found.at_s:
            yield Observation(value(found))

    return values


def _open(jobs: JobHost) -> Iterator[Observation]:
    for status, count in jobs.worker.open_executions().items():
        yield Observation(count, {"status": status.value.lower()})


def _news(jobs: JobHost) -> Iterator[Observation]:
    listener = jobs.listener
    counts = {"heard": listener.received, "begun": listener.started, "left": listener.dropped}
    for outcome, count in counts.items():
        yield Observation(count, {"outcome": outcome})


def _one(count: Callable[[], int]) -> Values:
    return lambda: [Observation(count())]


def _called(values: Values) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: list(values())
