"""Exports ``AgentMetrics`` as OpenTelemetry instruments.

Import this module only if metrics are enabled: OpenTelemetry is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from opentelemetry.metrics import Meter, Observation

from core import __version__
from core.process.openmetrics import Instruments, MetricsRegistry, Scrape
from nodeagent.telemetry.metrics import (
    COMPATIBLE_SCOPE,
    OWN_SCOPE,
    AgentMetrics,
    Histogram,
    LabelledGauge,
)

DURATION_BOUNDS_S: Final = (0.1, 0.3, 0.5, 1.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Bucket bounds of Spiderpool's histograms."""

STORE_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


class ExpositionSource(Protocol):
    """A source of additional metrics. An implementation must limit the number of samples."""

    async def text(self) -> bytes:
        """Metrics as Prometheus text."""
        ...


class Exposition:
    """The instruments of one agent. The constructor sets the histograms of ``metrics``."""

    def __init__(self, metrics: AgentMetrics, sources: Sequence[ExpositionSource] = ()) -> None:
        self._sources = sources
        self._registry = MetricsRegistry()
        provider = self._registry.provider
        meters = {
            scope: provider.get_meter(scope, __version__) for scope in (COMPATIBLE_SCOPE, OWN_SCOPE)
        }
        instruments = {scope: Instruments(meter) for scope, meter in meters.items()}
        for reading in metrics.readings:
            target = instruments[reading.scope]
            create = target.counter if reading.kind == "counter" else target.gauge
            create(reading.name, reading.help, reading.value)
        for gauge in metrics.labelled:
            instruments[OWN_SCOPE].gauges(gauge.name, gauge.help, partial(_observations_of, gauge))
        compatible_meter = meters[COMPATIBLE_SCOPE]
        metrics.allocation.histograms = _histograms(compatible_meter, "allocation", "ADD")
        metrics.release.histograms = _histograms(compatible_meter, "release", "DEL")
        metrics.store_calls = meters[OWN_SCOPE].create_histogram(
            "orbweaver_store_call_duration_seconds",
            description="Duration of calls to etcd by method and outcome",
            explicit_bucket_boundaries_advisory=STORE_BOUNDS_S,
        )

    async def scrape(self, accept: str) -> Scrape:
        """Metrics in a format that the scraper accepts."""
        source_texts = b"".join([await source.text() for source in self._sources])
        return self._registry.scrape(accept, source_texts)

    def close(self) -> None:
        """Shut the instruments down."""
        self._registry.close()


def _observations_of(gauge: LabelledGauge) -> Iterator[Observation]:
    for name, value in gauge.values().items():
        yield Observation(value, {gauge.label: name})


def _histograms(meter: Meter, name: str, command: str) -> tuple[Histogram, Histogram]:
    return (
        meter.create_histogram(
            f"spiderpool_ipam_{name}_duration_seconds",
            description=f"Duration of {command} requests",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        ),
        meter.create_histogram(
            f"spiderpool_ipam_{name}_limit_duration_seconds",
            description=f"Time that {command} requests waited before they started",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        ),
    )
