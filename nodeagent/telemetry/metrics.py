"""What is counted: the documented names of docs/reference/metrics.md, and ours.

Counts are plain integers that are read when somebody scrapes, so that an ADD pays for additions and
not for instruments; histograms are recorded as they happen, and only where somebody has put them
here (``nodeagent.telemetry.exposition``). Labels never hold Pod names. It decides nothing and never
raises into the work that it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from core.errors import AddressesUsedOut, NoPoolAvailable, RetriesExhausted, WrongInput
from nodeagent.telemetry.durations import Durations

COMPATIBLE: Final = "spiderpool-agent"
OURS: Final = "orbweaver-agent"
Scope = Literal["spiderpool-agent", "orbweaver-agent"]
Kind = Literal["counter", "gauge"]

_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NoPoolAvailable, "no_available_pool"),
    (RetriesExhausted, "retries_exhausted"),
    (AddressesUsedOut, "ip_used_out"),
    (WrongInput, "wrong_input"),
)


class Histogram(Protocol):
    """Takes values as they happen."""

    def record(self, amount: float, attributes: Mapping[str, str] | None = None) -> None:
        """One value with its labels."""
        ...


class ObservedMetric(NamedTuple):
    """A metric that is read when somebody scrapes; counters get ``_total`` behind their name."""

    scope: Scope
    kind: Kind
    name: str
    words: str
    value: Callable[[], float]


class LabelledGauge(NamedTuple):
    """A gauge of ours with one label: ``values`` returns the value of each label value."""

    name: str
    words: str
    label: str
    values: Callable[[], Mapping[str, int]]


class WorkCounts:
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


class AgentMetrics:
    """The counts of one agent. ``readings`` and ``labelled``: what there is to be read."""

    def __init__(self) -> None:
        self.allocation = WorkCounts()
        self.release = WorkCounts()
        self.auto_pool_waits = 0
        self.store_calls: Histogram | None = None
        self.labelled: list[LabelledGauge] = []
        self.readings: list[ObservedMetric] = [
            *_of_work("allocation", "ADD", self.allocation),
            *_of_work("release", "DEL", self.release),
            *(
                _of_class("allocation", f"err_{kind}", self.allocation)
                for kind in ("no_available_pool", "ip_used_out")
            ),
            ObservedMetric(
                COMPATIBLE,
                "counter",
                "spiderpool_debug_auto_pool_waited_for_available_counts",
                "Waits for an automatic pool",
                lambda: self.auto_pool_waits,
            ),
        ]
        self.counter(
            "allocation_tries",
            "Transactions that successful ADDs needed",
            lambda: self.allocation.tries,
        )
        self.counter(
            "allocation_conflicts",
            "Races for an address or endpoint that ADDs of this agent have lost",
            lambda: self.allocation.conflicts,
        )
        self.counter(
            "allocation_wrong_input",
            "ADDs refused because an annotation or request contradicts itself",
            lambda: self.allocation.by_class.get("wrong_input", 0),
        )

    def gauge(self, name: str, words: str, value: Callable[[], float]) -> None:
        """A gauge of ours, ``orbweaver_<name>``."""
        self.readings.append(ObservedMetric(OURS, "gauge", f"orbweaver_{name}", words, value))

    def counter(self, name: str, words: str, value: Callable[[], int]) -> None:
        """A counter of ours, ``orbweaver_<name>_total``."""
        self.readings.append(ObservedMetric(OURS, "counter", f"orbweaver_{name}", words, value))

    def gauge_by(
        self, label: str, name: str, words: str, values: Callable[[], Mapping[str, int]]
    ) -> None:
        """A gauge of ours, ``orbweaver_<name>``, with one series for each value of the label."""
        self.labelled.append(LabelledGauge(f"orbweaver_{name}", words, label, values))

    def on_auto_pool_wait(self) -> None:
        """An ADD waits for an automatic pool."""
        self.auto_pool_waits += 1

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """One call to the store is over (a ``CallObserver``)."""
        if self.store_calls is not None:
            self.store_calls.record(seconds, {"method": method, "outcome": outcome})


def _class_of(error: Exception) -> str:
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), "internal")


def _of_work(name: str, verb: str, work: WorkCounts) -> list[ObservedMetric]:
    prefix = f"spiderpool_ipam_{name}"
    waits = f"waits of {verb} requests"

    def counter(suffix: str, words: str, value: Callable[[], float]) -> ObservedMetric:
        return ObservedMetric(COMPATIBLE, "counter", f"{prefix}_{suffix}", words, value)

    return [
        counter("counts", f"Number of {verb} requests", lambda: work.count),
        counter("failure_counts", f"Failed {verb} requests", lambda: work.failures),
        counter(
            "update_ippool_conflict_counts",
            f"Races that {verb} requests have lost",
            lambda: work.conflicts,
        ),
        _of_class(name, "err_internal", work),
        _of_class(name, "err_retries_exhausted", work),
        *_of_durations(f"{prefix}_{{}}_duration_seconds", f"{verb} requests", work.durations),
        *_of_durations(f"{prefix}_{{}}_limit_duration_seconds", waits, work.waits),
    ]


def _of_class(name: str, kind: str, work: WorkCounts) -> ObservedMetric:
    key = kind.removeprefix("err_")
    return ObservedMetric(
        COMPATIBLE,
        "counter",
        f"spiderpool_ipam_{name}_{kind}_counts",
        f"Failures of class {key.replace('_', ' ')}",
        lambda: work.by_class.get(key, 0),
    )


def _of_durations(pattern: str, what: str, durations: Durations) -> list[ObservedMetric]:
    def gauge(word: str, words: str, value: Callable[[], float]) -> ObservedMetric:
        return ObservedMetric(
            COMPATIBLE, "gauge", pattern.format(word), f"{words} of {what}", value
        )

    return [
        gauge("average", "Mean", lambda: durations.mean),
        gauge("max", "Longest", lambda: durations.greatest),
        gauge("min", "Shortest", lambda: durations.least),
        gauge("latest", "Last", lambda: durations.latest),
    ]
