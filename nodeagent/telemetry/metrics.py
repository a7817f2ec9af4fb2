"""Every metric of the agent: the documented names of spec/api.md 6, and ours.

Made on OpenTelemetry's meter. Counters are plain integers that are read when somebody scrapes, so
that an ADD pays for additions and not for instruments; histograms are recorded as they happen, and
only while metrics are switched on. Labels never hold Pod names. It decides nothing and never raises
into the work that it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from core import __version__
from core.errors import AddressesUsedOut, NoPoolAvailable, RetriesExhausted, WrongInput
from nodeagent.telemetry.durations import Durations

SERVICE_NAME: Final = "spiderpool.spidernet.io"
COMPATIBLE_SCOPE: Final = "spiderpool-agent"
OUR_SCOPE: Final = "orbweaver-agent"

DURATION_BOUNDS_S: Final = (0.1, 0.3, 0.5, 1.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Bounds of the documented histograms."""

STORE_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NoPoolAvailable, "no_available_pool"),
    (RetriesExhausted, "retries_exhausted"),
    (AddressesUsedOut, "ip_used_out"),
    (WrongInput, "wrong_input"),
)


class Work:
    """Counts of one kind of work, ADDs or DELs; ``histograms``: of durations and of waits."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self.tries = 0
        self.conflicts = 0
        self.by_class: dict[str, int] = {}
        self.durations = Durations()
        self.waits = Durations()
        self.histograms: tuple[Histogram, Histogram] | None = None

    def record(self, seconds: float, waited: float, tries: int, error: Exception | None) -> None:
        """One more is over, after this time and that wait before its work began."""
        self.count += 1
        self.durations.record(seconds)
        self.waits.record(waited)
        self.tries += tries
        if tries > 1:
            self.conflicts += tries - 1
        if error is not None:
            self.failures += 1
            kind = _class_of(error)
            self.by_class[kind] = self.by_class.get(kind, 0) + 1
        if self.histograms is not None:
            self.histograms[0].record(seconds)
            self.histograms[1].record(waited)


class Metrics:
    """The instruments. ``exposition`` is what a scrape gets."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.allocation = Work()
        self.release = Work()
        self._registry = CollectorRegistry()
        self._provider: MeterProvider | None = None
        compatible: Meter = NoOpMeterProvider().get_meter(COMPATIBLE_SCOPE)
        self._ours: Meter = compatible
        if enabled:
            resource = Resource.create({"service.name": SERVICE_NAME})
            reader = PrometheusMetricReader(registry=self._registry)
            # No handler at exit: the agent closes what it opened.
            self._provider = MeterProvider([reader], resource, shutdown_on_exit=False)
            compatible = self._provider.get_meter(COMPATIBLE_SCOPE, __version__)
            self._ours = self._provider.get_meter(OUR_SCOPE, __version__)
            ProcessCollector(registry=self._registry)
            self.allocation.histograms = _histograms(compatible, "allocation", "ADD")
            self.release.histograms = _histograms(compatible, "release", "DEL")
        self._store_calls = self._ours.create_histogram(
            "orbweaver_store_call_duration_seconds",
            description="Duration of calls to etcd by method and outcome",
            explicit_bucket_boundaries_advisory=STORE_BOUNDS_S,
        )
        _observe_work(compatible, "allocation", "ADD", self.allocation)
        _observe_work(compatible, "release", "DEL", self.release)
        for kind in ("err_no_available_pool", "err_ip_used_out"):
            _observe_class(compatible, "allocation", kind, self.allocation)
        _count(
            compatible,
            "spiderpool_debug_auto_pool_waited_for_available_counts",
            "Waits for an automatic pool",
            lambda: 0,
        )
        _count(
            self._ours,
            "orbweaver_allocation_tries",
            "Transactions that successful ADDs needed",
            lambda: self.allocation.tries,
        )
        _count(
            self._ours,
            "orbweaver_allocation_conflicts",
            "Races for an address or endpoint that ADDs of this agent have lost",
            lambda: self.allocation.conflicts,
        )
        _count(
            self._ours,
            "orbweaver_allocation_wrong_input",
            "ADDs refused because an annotation or request contradicts itself",
            lambda: self.allocation.by_class.get("wrong_input", 0),
        )

    def gauge(self, name: str, words: str, value: Callable[[], float]) -> None:
        """A gauge of ours, read when somebody scrapes."""
        _gauge(self._ours, f"orbweaver_{name}", words, value)

    def counter(self, name: str, words: str, value: Callable[[], int]) -> None:
        """A counter of ours, read when somebody scrapes; its name gets ``_total``."""
        _count(self._ours, f"orbweaver_{name}", words, value)

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """One call to the store is over."""
        if self.enabled:
            self._store_calls.record(seconds, {"method": method, "outcome": outcome})

    def exposition(self) -> bytes:
        """All metrics as Prometheus text."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Take the instruments down."""
        if self._provider is not None:
            self._provider.shutdown()


def _histograms(meter: Meter, name: str, verb: str) -> tuple[Histogram, Histogram]:
    return (
        meter.create_histogram(
            f"spiderpool_ipam_{name}_duration_seconds",
            description=f"Duration of {verb} requests",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        ),
        meter.create_histogram(
            f"spiderpool_ipam_{name}_limit_duration_seconds",
            description=f"Time that {verb} requests waited before their work began",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        ),
    )


def _class_of(error: Exception) -> str:
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), "internal")


def _observe_work(meter: Meter, name: str, verb: str, work: Work) -> None:
    prefix = f"spiderpool_ipam_{name}"
    _count(meter, f"{prefix}_counts", f"Number of {verb} requests", lambda: work.count)
    _count(meter, f"{prefix}_failure_counts", f"Failed {verb} requests", lambda: work.failures)
    _count(
        meter,
        f"{prefix}_update_ippool_conflict_counts",
        f"Races that {verb} requests have lost",
        lambda: work.conflicts,
    )
    for kind in ("err_internal", "err_retries_exhausted"):
        _observe_class(meter, name, kind, work)
    for infix, durations in (("", work.durations), ("limit_", work.waits)):
        what = f"{verb} requests" if not infix else f"waits of {verb} requests"
        _observe_durations(meter, f"{prefix}_{{}}_{infix}duration_seconds", what, durations)


def _observe_class(meter: Meter, name: str, kind: str, work: Work) -> None:
    key = kind.removeprefix("err_")
    _count(
        meter,
        f"spiderpool_ipam_{name}_{kind}_counts",
        f"Failures of class {key.replace('_', ' ')}",
        lambda: work.by_class.get(key, 0),
    )


def _observe_durations(meter: Meter, pattern: str, what: str, durations: Durations) -> None:
    _gauge(meter, pattern.format("average"), f"Mean of {what}", lambda: durations.mean)
    _gauge(meter, pattern.format("max"), f"Longest of {what}", lambda: durations.greatest)
    _gauge(meter, pattern.format("min"), f"Shortest of {what}", lambda: durations.least)
    _gauge(meter, pattern.format("latest"), f"Last of {what}", lambda: durations.latest)


def _count(meter: Meter, name: str, words: str, value: Callable[[], int]) -> None:
    meter.create_observable_counter(name, [_reader(value)], description=words)


def _gauge(meter: Meter, name: str, words: str, value: Callable[[], float]) -> None:
    meter.create_observable_gauge(name, [_reader(value)], description=words)


def _reader(value: Callable[[], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(value())]
