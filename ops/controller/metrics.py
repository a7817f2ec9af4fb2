"""The metrics of a controller, read at each scrape (docs/reference/metrics.md).

Metrics with the same meaning as in Spiderpool have its names. No label contains the name of a Pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from opentelemetry.metrics import MeterProvider, Observation

from core import __version__
from core.domain.evolution import Ledger
from core.domain.model import Subnet
from core.domain.subnets.subnet_model import count_addresses, pools_of_subnet
from core.eventstore.election import Election
from core.process.connections import ConnectionCounts
from core.process.openmetrics import Instruments
from core.projections.projector import Projector
from core.projections.publisher import Publisher
from ops.controller.forecaster import Forecaster
from ops.controller.job_metrics import observe_jobs
from ops.controller.observer import ControllerObserver
from ops.kubernetes.watches.cluster_watch import ClusterWatch, WatchStatus
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.jobs.job_host import JobHost

COMPATIBLE_SCOPE: Final = "spiderpool-controller"
OUR_SCOPE: Final = "orbweaver-controller"


class MetricSources(NamedTuple):
    """The parts of the controller from which the metrics are read."""

    projector: Projector
    publisher: Publisher
    election: Election
    archiving: ArchiveActivities
    observer: ControllerObserver
    jobs: JobHost
    cluster: ClusterWatch | None = None
    forecaster: Forecaster | None = None

    @property
    def lag_events(self) -> int:
        """A lower bound of unpublished events: every unread segment counts as one event."""
        # Only the leader has a term and publishes.
        unpublished = self.publisher.unpublished if self.election.term is not None else 0
        return self.observer.lag.segments + unpublished


def observe_controller(
    meters: MeterProvider, sources: MetricSources, connections: ConnectionCounts, *, debug: bool
) -> None:
    """Create the instruments of a controller."""
    compatible = Instruments(meters.get_meter(COMPATIBLE_SCOPE, __version__))
    ours = Instruments(meters.get_meter(OUR_SCOPE, __version__))
    _observe_pools(compatible, ours, sources.projector)
    if debug:
        _observe_debug(compatible, sources.projector)
    _observe_log(ours, sources)
    _observe_connections(ours, connections)
    observe_jobs(compatible, ours, sources.jobs, sources.observer)
    if sources.cluster is not None:
        _observe_cluster(ours, sources.cluster)
    if sources.forecaster is not None:
        observe_forecasts(ours, sources.forecaster)


def _observe_pools(compatible: Instruments, ours: Instruments, projector: Projector) -> None:
    def states() -> Iterator[Observation]:
        for name, tally in projector.projection.tallies.items():
            for state, number in tally.counts._asdict().items():
                yield Observation(number, {"pool": name, "state": state})

    compatible.gauge(
        "spiderpool_total_ippool_counts",
        "Number of IPPools",
        lambda: len(projector.projection.tallies),
    )
    compatible.gauge(
        "spiderpool_total_subnet_counts",
        "Number of Subnets",
        lambda: len(projector.projection.ledger.subnets),
    )
    ours.gauges(
        "orbweaver_pool_addresses",
        "Addresses of a pool by state; state total: all of them",
        states,
    )
    ours.gauge(
        "orbweaver_claims", "Allocated addresses", lambda: len(projector.projection.ledger.claims)
    )
    ours.gauge(
        "orbweaver_endpoints",
        "Endpoints with addresses",
        lambda: len(projector.projection.ledger.endpoints),
    )


def observe_forecasts(ours: Instruments, forecaster: Forecaster) -> None:
    """Create the instruments of the forecasts."""

    def exhaustion(kind: str) -> Iterator[Observation]:
        for name, seconds in forecaster.exhaustion_s(kind):
            yield Observation(seconds, {kind: name})

    for kind in ("pool", "subnet"):
        ours.gauges(
            f"orbweaver_{kind}_exhaustion_seconds",
            f"Expected time until a {kind} has no free address; absent without a trend",
            partial(exhaustion, kind),
        )


def _observe_debug(compatible: Instruments, projector: Projector) -> None:
    def of_pools(field: str) -> Iterator[Observation]:
        for name, tally in projector.projection.tallies.items():
            yield Observation(getattr(tally.counts, field), {"SpiderIPPool": name})

    def of_subnets(value: Callable[[Subnet, Ledger], int]) -> Iterator[Observation]:
        ledger = projector.projection.ledger
        for name, subnet in ledger.subnets.items():
            yield Observation(value(subnet, ledger), {"SpiderSubnet": name})

    for name, field, description in (
        ("total", "total", "Addresses of an IPPool"),
        ("available", "free", "Free addresses of an IPPool"),
    ):
        compatible.gauges(
            f"spiderpool_debug_ippool_{name}_ip_counts", description, partial(of_pools, field)
        )
    values: tuple[tuple[str, str, Callable[[Subnet, Ledger], int]], ...] = (
        (
            "total_ip",
            "Addresses",
            lambda subnet, ledger: count_addresses(subnet, ledger.pools).total,
        ),
        (
            "available_ip",
            "Addresses in no pool",
            lambda subnet, ledger: count_addresses(subnet, ledger.pools).free,
        ),
        (
            "ippool",
            "IPPools",
            lambda subnet, ledger: len(pools_of_subnet(subnet.name, ledger.pools)),
        ),
    )
    for name, counted, value in values:
        compatible.gauges(
            f"spiderpool_debug_subnet_{name}_counts",
            f"{counted} of a Subnet",
            partial(of_subnets, value),
        )


def _observe_connections(ours: Instruments, counts: ConnectionCounts) -> None:
    ours.counter(
        "orbweaver_connections_refused",
        "Connections closed because of a limit",
        lambda: counts.refused,
    )
    ours.counter(
        "orbweaver_connections_timed_out",
        "Connections closed without a request",
        lambda: counts.timed_out,
    )
    ours.counter(
        "orbweaver_requests_malformed", "Requests that are not HTTP", lambda: counts.malformed
    )


def _observe_log(ours: Instruments, sources: MetricSources) -> None:
    observer, archiving, projector = sources.observer, sources.archiving, sources.projector
    ours.gauges(
        "orbweaver_contained_faults",
        "Stored objects that this process cannot read and ignores",
        lambda: [
            Observation(count, {"kind": kind}) for kind, count in projector.faults.by_kind().items()
        ],
    )
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        (
            "projection_lag_events",
            "Events after the last checkpoint, a lower bound",
            lambda: sources.lag_events,
        ),
        (
            "projection_lag_seconds",
            "Seconds that the projection has been behind the log",
            lambda: observer.lag.seconds,
        ),
        (
            "projection_position",
            "Position of the newest event in the projection",
            lambda: projector.projection.position,
        ),
        ("leading", "1 while this replica leads", lambda: int(sources.election.term is not None)),
        (
            "log_live_segments",
            "Segments in etcd that are not sealed; reported by the archiving replica",
            lambda: archiving.live_segments,
        ),
    )
    counters: tuple[tuple[str, str, Callable[[], int]], ...] = (
        (
            "projection_rebuilds",
            "Starts of the projection from the state keys",
            lambda: projector.rebuilds,
        ),
        ("checkpoints_published", "Checkpoints written", lambda: sources.publisher.published),
        (
            "views_published",
            "Former name of checkpoints_published",
            lambda: sources.publisher.published,
        ),
        (
            "archive_sealed_segments",
            "Segments moved into archive files",
            lambda: archiving.sealed_segments,
        ),
        ("archive_pruned_files", "Deleted archive files", lambda: archiving.pruned_files),
        ("archive_failures", "Attempts to archive that failed", lambda: archiving.failures),
    )
    for name, description, read_gauge in gauges:
        ours.gauge(f"orbweaver_{name}", description, read_gauge)
    for name, description, read_counter in counters:
        ours.counter(f"orbweaver_{name}", description, read_counter)


def _observe_cluster(ours: Instruments, cluster: ClusterWatch) -> None:
    def observed(value: Callable[[WatchStatus], int]) -> Iterator[Observation]:
        for watch in cluster.watched():
            yield Observation(value(watch), {"kind": watch.kind, "purpose": watch.purpose})

    ours.gauges(
        "orbweaver_cluster_objects",
        "Watched objects of the API server",
        lambda: observed(lambda watch: watch.objects),
    )
    ours.gauges(
        "orbweaver_cluster_unwatched",
        "1 while the watched objects of a kind may be stale",
        lambda: observed(lambda watch: int(bool(watch.fault))),
    )
    ours.counters(
        "orbweaver_cluster_reads",
        "Requests that read objects directly, where watched objects may be stale",
        lambda: observed(lambda watch: watch.reads),
    )
