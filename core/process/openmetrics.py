"""The metrics of a process, as Prometheus text or OpenMetrics.

Import only where metrics are enabled: OpenTelemetry's SDK adds 0.1 s to the start.
OpenTelemetry's Prometheus exporter drops exemplars (trace ids of requests); this module adds them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    Exemplar,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import Histogram, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.samples import Sample

from core.process.connections import ConnectionCounts
from core.process.tcp_port import METRICS_CONNECTIONS_MAX, TcpPort
from core.process.tracing import current_tracer

SERVICE_NAME: Final = "spiderpool.spidernet.io"
"""Spiderpool's dashboards select metrics by this name."""

_NANOSECONDS: Final = 1_000_000_000
_SECONDS: Final = "_seconds"
_SCOPE: Final = "otel_scope_"

Series = tuple[str, frozenset[tuple[str, str]]]
"""The name of a histogram without ``_seconds``, and its labels without ``otel_scope_...``."""


class Scrape(NamedTuple):
    """The response to a scrape."""

    body: bytes
    content_type: str


class MetricsRegistry:
    """Creates instruments (``provider``) and returns their values (``scrape``)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._reader = _ExemplarReader(self._registry)
        self._is_traced = current_tracer() is not None
        # The process calls ``close``; an exit handler would repeat the shutdown.
        self.provider = MeterProvider(
            [self._reader],
            Resource.create({"service.name": SERVICE_NAME}),
            shutdown_on_exit=False,
            exemplar_filter=(
                TraceBasedExemplarFilter() if self._is_traced else AlwaysOffExemplarFilter()
            ),
        )

    def scrape(self, accept: str = "", other_metrics: bytes = b"") -> Scrape:
        """The values of all instruments, then ``other_metrics``, a Prometheus text.

        Only a process that exports traces answers with OpenMetrics.
        """
        if not self._is_traced or "openmetrics" not in accept:
            return Scrape(generate_latest(self._registry) + other_metrics, CONTENT_TYPE_LATEST)
        encode, content_type = choose_encoder(accept)
        return Scrape(encode(_Families(self._registry, self._reader, other_metrics)), content_type)

    def close(self) -> None:
        """Shut the instruments down."""
        self.provider.shutdown()


class Instruments:
    """Creates instruments of one meter. Each scrape calls ``value`` or ``values``."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def gauge(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A gauge of one series."""
        self.gauges(name, description, lambda: [Observation(value())])

    def counter(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A counter of one series."""
        self.counters(name, description, lambda: [Observation(value())])

    def gauges(
        self, name: str, description: str, values: Callable[[], Iterable[Observation]]
    ) -> None:
        """A gauge of several series."""
        callback = [lambda _: list(values())]
        self._meter.create_observable_gauge(name, callback, description=description)

    def counters(
        self, name: str, description: str, values: Callable[[], Iterable[Observation]]
    ) -> None:
        """A counter of several series."""
        callback = [lambda _: list(values())]
        self._meter.create_observable_counter(name, callback, description=description)


def metrics_port(
    scrape: Callable[[str], Scrape | Awaitable[Scrape]], counts: ConnectionCounts | None = None
) -> TcpPort:
    """The port that Prometheus scrapes; every path returns the metrics."""

    async def serve_metrics(request: web.Request) -> web.Response:
        result = scrape(request.headers.get("Accept", ""))
        body, content_type = result if isinstance(result, Scrape) else await result
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/{path:.*}", serve_metrics)
    return TcpPort(app, "metrics port", METRICS_CONNECTIONS_MAX, counts)


class _ExemplarReader(PrometheusMetricReader):
    """Keeps the exemplars of the latest scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exemplars: dict[Series, Sequence[Exemplar]] = {}
        super().__init__(registry=registry)

    def _receive_metrics(self, metrics_data: MetricsData, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # the SDK's signature
        self.exemplars = dict(_exemplars_of(metrics_data))
        super()._receive_metrics(metrics_data, *args, **kwargs)


class _Families:
    def __init__(
        self, registry: CollectorRegistry, reader: _ExemplarReader, other_metrics: bytes
    ) -> None:
        self._registry = registry
        self._reader = reader
        self._other_metrics = other_metrics

    def collect(self) -> Iterator[Metric]:
        """Yield each family, with exemplars in histograms."""
        for family in self._registry.collect():
            if family.type == "histogram":
                _add_exemplars(family, self._reader.exemplars)
            yield family
        yield from text_string_to_metric_families(self._other_metrics.decode())


def _exemplars_of(data: MetricsData) -> Iterator[tuple[Series, Sequence[Exemplar]]]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if not isinstance(metric.data, Histogram):
                    continue
                for point in metric.data.data_points:
                    if point.exemplars:
                        yield _series(metric.name, point.attributes or {}), point.exemplars


def _series(name: str, labels: Mapping[str, object]) -> Series:
    # The exporter gives a series the labels that only other series have, with the value "".
    own_labels = {
        (key, str(value))
        for key, value in labels.items()
        if not key.startswith(_SCOPE) and str(value)
    }
    return name.removesuffix(_SECONDS), frozenset(own_labels)


def _add_exemplars(family: Metric, exemplars: Mapping[Series, Sequence[Exemplar]]) -> None:
    lower = float("-inf")
    for index, sample in enumerate(family.samples):
        if not sample.name.endswith("_bucket"):
            continue
        labels = dict(sample.labels)
        upper = float(labels.pop("le"))
        if upper <= lower:
            lower = float("-inf")  # the first bucket of the next series
        series_exemplars = exemplars.get(_series(family.name, labels), ())
        family.samples[index] = _with_exemplar(sample, series_exemplars, lower, upper)
        lower = upper


def _with_exemplar(
    sample: Sample, exemplars: Iterable[Exemplar], lower: float, upper: float
) -> Sample:
    for exemplar in exemplars:
        if lower < exemplar.value <= upper and exemplar.trace_id and exemplar.span_id:
            ids = {
                "trace_id": f"{exemplar.trace_id:032x}",
                "span_id": f"{exemplar.span_id:016x}",
            }
            seconds = exemplar.time_unix_nano / _NANOSECONDS
            return sample._replace(exemplar=PrometheusExemplar(ids, exemplar.value, seconds))
    return sample
