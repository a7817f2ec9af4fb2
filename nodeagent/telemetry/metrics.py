"""The agent's metrics: Spiderpool's metrics and new metrics (docs/reference/metrics.md).

Counts are plain integers that a scrape reads: an ADD calls no counter instruments. Labels never
contain Pod names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from core.errors import AddressesUsedOut, NoPoolAvailable, RetriesExhausted, WrongInput

COMPATIBLE_SCOPE: Final = "spiderpool-agent"
"""Scope of Spiderpool's metrics."""

OWN_SCOPE: Final = "orbweaver-agent"

Scope = Literal["spiderpool-agent", "orbweaver-agent"]
Kind = Literal["counter", "gauge"]

_ERROR_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NoPoolAvailable, "no_available_pool"),
    (RetriesExhausted, "retries_exhausted"),
    (AddressesUsedOut, "ip_used_out"),
    (WrongInput, "wrong_input"),
)


class Histogram(Protocol):
    """An OpenTelemetry histogram."""

    def record(self, amount: float, attributes: Mapping[str, str] | None = None) -> None:
        """Record one value."""
        ...


class ObservedMetric(NamedTuple):
    """A metric that each scrape reads. The exporter adds ``_total`` to a counter's name."""

    scope: Scope
    kind: Kind
    name: str
    help: str
    value: Callable[[], float]


class LabelledGauge(NamedTuple):
    """A gauge with one label. ``values`` returns a number for each label value."""

    name: str
    help: str
    label: str
    values: Callable[[], Mapping[str, int]]


class Durations:
    """Latest, shortest, longest and mean duration in seconds; 0 before the first duration."""

    __slots__ = ("count", "latest", "longest", "shortest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.latest = 0.0
        self.shortest = 0.0
        self.longest = 0.0
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Add one duration."""
        if not self.count or seconds < self.shortest:
            self.shortest = seconds
        self.longest = max(self.longest, seconds)
        self.count += 1
        self.latest = seconds
        self.total += seconds

    @property
    def mean(self) -> float:
        """The mean duration."""
        return self.total / self.count if self.count else 0.0


class WorkCounts:
    """Counts of ADDs or DELs. ``histograms``: durations and waits; None without ``Exposition``."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self.tries = 0
        self.conflicts = 0
        self.failures_by_class: dict[str, int] = {}
        self.durations = Durations()
        self.waits = Durations()
        self.histograms: tuple[Histogram, Histogram] | None = None

    def record(self, seconds: float, waited: float, tries: int, error: Exception | None) -> None:
        """Count a request that took ``seconds`` after a wait of ``waited`` seconds."""
        self.count += 1
        self.durations.record(seconds)
        self.waits.record(waited)
        self.tries += tries
        if tries > 1:
            self.conflicts += tries - 1
        if error is not None:
            self.failures += 1
            kind = _error_class(error)
            self.failures_by_class[kind] = self.failures_by_class.get(kind, 0) + 1
        if self.histograms is not None:
            self.histograms[0].record(seconds)
            self.histograms[1].record(waited)


class AgentMetrics:
    """The metrics of one agent."""

    def __init__(self) -> None:
        self.allocation = WorkCounts()
        self.release = WorkCounts()
        self.auto_pool_waits = 0
        self.store_calls: Histogram | None = None
        self.labelled: list[LabelledGauge] = []
        self.readings: list[ObservedMetric] = [
            *_work_metrics("allocation", "ADD", self.allocation),
            *_work_metrics("release", "DEL", self.release),
            *(
                _class_failures("allocation", f"err_{kind}", self.allocation)
                for kind in ("no_available_pool", "ip_used_out")
            ),
            ObservedMetric(
                COMPATIBLE_SCOPE,
                "counter",
                "spiderpool_debug_auto_pool_waited_for_available_counts",
                "ADDs that waited for an automatic pool",
                lambda: self.auto_pool_waits,
            ),
        ]
        self.counter(
            "allocation_tries",
            "etcd transactions of ADDs, retries included",
            lambda: self.allocation.tries,
        )
        self.counter(
            "allocation_conflicts",
            "Transactions of ADDs that failed because another writer had changed a key first",
            lambda: self.allocation.conflicts,
        )
        self.counter(
            "allocation_wrong_input",
            "ADDs refused because of an invalid annotation or request",
            lambda: self.allocation.failures_by_class.get("wrong_input", 0),
        )

    def gauge(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Register the gauge ``orbweaver_<name>``."""
        self.readings.append(ObservedMetric(OWN_SCOPE, "gauge", f"orbweaver_{name}", help_, value))

    def counter(self, name: str, help_: str, value: Callable[[], int]) -> None:
        """Register the counter ``orbweaver_<name>_total``."""
        self.readings.append(
            ObservedMetric(OWN_SCOPE, "counter", f"orbweaver_{name}", help_, value)
        )

    def gauge_by(
        self, label: str, name: str, help_: str, values: Callable[[], Mapping[str, int]]
    ) -> None:
        """Register ``orbweaver_<name>`` with one series for each label value."""
        self.labelled.append(LabelledGauge(f"orbweaver_{name}", help_, label, values))

    def on_auto_pool_wait(self) -> None:
        """Count an ADD that waits for an automatic pool."""
        self.auto_pool_waits += 1

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """See ``CallObserver``."""
        if self.store_calls is not None:
            self.store_calls.record(seconds, {"method": method, "outcome": outcome})


def _error_class(error: Exception) -> str:
    return next((name for kind, name in _ERROR_CLASSES if isinstance(error, kind)), "internal")


def _work_metrics(name: str, command: str, work: WorkCounts) -> list[ObservedMetric]:
    prefix = f"spiderpool_ipam_{name}"
    durations = f"duration of {command} requests, in seconds"
    waits = f"wait of {command} requests before they started, in seconds"

    def counter(suffix: str, help_: str, value: Callable[[], float]) -> ObservedMetric:
        return ObservedMetric(COMPATIBLE_SCOPE, "counter", f"{prefix}_{suffix}", help_, value)

    return [
        counter("counts", f"Number of {command} requests", lambda: work.count),
        counter("failure_counts", f"Failed {command} requests", lambda: work.failures),
        counter(
            "update_ippool_conflict_counts",
            f"Transactions of {command} requests that failed because another writer was faster",
            lambda: work.conflicts,
        ),
        _class_failures(name, "err_internal", work),
        _class_failures(name, "err_retries_exhausted", work),
        *_duration_gauges(f"{prefix}_{{}}_duration_seconds", durations, work.durations),
        *_duration_gauges(f"{prefix}_{{}}_limit_duration_seconds", waits, work.waits),
    ]


def _class_failures(name: str, kind: str, work: WorkCounts) -> ObservedMetric:
    key = kind.removeprefix("err_")
    return ObservedMetric(
        COMPATIBLE_SCOPE,
        "counter",
        f"spiderpool_ipam_{name}_{kind}_counts",
        f"Failed {name}s of the class {key.replace('_', ' ')}",
        lambda: work.failures_by_class.get(key, 0),
    )


def _duration_gauges(pattern: str, what: str, durations: Durations) -> list[ObservedMetric]:
    def gauge(word: str, help_: str, value: Callable[[], float]) -> ObservedMetric:
        return ObservedMetric(
            COMPATIBLE_SCOPE, "gauge", pattern.format(word), f"{help_} {what}", value
        )

    return [
        gauge("average", "Mean", lambda: durations.mean),
        gauge("max", "Longest", lambda: durations.longest),
        gauge("min", "Shortest", lambda: durations.shortest),
        gauge("latest", "Last", lambda: durations.latest),
    ]
