"""Metrics, traces and the agent's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from core import __version__
from core.domain.events import Cause
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from core.process.logs import JsonLines, set_up_logging
from core.process.spans import SdkTracer
from core.process.tracing import span
from nodeagent.cni_protocol.failures import UNDECODABLE_CODE
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.emulation import needs_process_times, needs_real_time
from tests.support.http_caller import over_socket, over_tcp
from tests.support.spans import attributes_of, context_of, recorded_spans

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# docs/reference/metrics.md, without the prefix spiderpool_.
DOCUMENTED = {
    *(
        f"ipam_{work}_{name}"
        for work in ("allocation", "release")
        for name in (
            "counts_total",
            "failure_counts_total",
            "update_ippool_conflict_counts_total",
            "err_internal_counts_total",
            "err_retries_exhausted_counts_total",
            "average_duration_seconds",
            "max_duration_seconds",
            "min_duration_seconds",
            "latest_duration_seconds",
            "duration_seconds_bucket",
            "average_limit_duration_seconds",
            "max_limit_duration_seconds",
            "min_limit_duration_seconds",
            "latest_limit_duration_seconds",
            "limit_duration_seconds_bucket",
        )
    ),
    "ipam_allocation_err_no_available_pool_counts_total",
    "ipam_allocation_err_ip_used_out_counts_total",
    "debug_auto_pool_waited_for_available_counts_total",
}

Samples = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(agent: AgentHarness) -> Samples:
    assert agent.process.metrics_port is not None
    reply = await over_tcp(agent.process.metrics_port.port, "/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    samples: Samples = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.fixture
async def metered_node(
    settings: Settings, memory_store: MemoryStore
) -> AsyncIterator[AgentHarness]:
    async with running(settings._replace(metrics_enabled=True), memory_store) as node:
        yield node


async def test_every_documented_metric_is_served(metered_node: AgentHarness) -> None:
    await metered_node.pool("lan", "10.6.0.0/24", "10.6.0.10")
    before = await scrape(metered_node)
    await metered_node.add()
    await metered_node.delete()

    samples = await scrape(metered_node)

    assert {f"spiderpool_{name}" for name in DOCUMENTED} <= set(samples)
    assert value(before, "spiderpool_ipam_allocation_counts_total") == 0
    assert samples["target_info"][0][0]["service_name"] == "spiderpool.spidernet.io"
    scope = samples["spiderpool_ipam_allocation_counts_total"][0][0]
    assert scope["otel_scope_name"] == "spiderpool-agent"
    assert scope["otel_scope_version"]


def value(samples: Samples, name: str, **labels: str) -> float:
    """The value of the only sample with this name and these labels."""
    (matching,) = (v for present, v in samples[name] if labels.items() <= present.items())
    return matching


async def test_requests_are_counted_and_failures_are_counted_by_error(
    metered_node: AgentHarness,
) -> None:
    await metered_node.call("ADD")
    await metered_node.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await metered_node.add("web-0")
    await metered_node.call("ADD", "web-1")
    await metered_node.pod("web-2", {"ippools": []})
    await metered_node.call("ADD", "web-2")
    await metered_node.delete("web-0")

    samples = await scrape(metered_node)

    prefix = "spiderpool_ipam_allocation"
    assert value(samples, f"{prefix}_counts_total") == 4
    assert value(samples, f"{prefix}_failure_counts_total") == 3
    assert value(samples, f"{prefix}_err_no_available_pool_counts_total") == 1
    assert value(samples, f"{prefix}_err_ip_used_out_counts_total") == 1
    assert value(samples, f"{prefix}_err_retries_exhausted_counts_total") == 0
    assert value(samples, f"{prefix}_err_internal_counts_total") == 0
    assert value(samples, "orbweaver_allocation_wrong_input_total") == 1
    assert value(samples, "spiderpool_ipam_release_counts_total") == 1
    assert value(samples, "spiderpool_ipam_release_failure_counts_total") == 0


async def test_histograms_have_the_documented_bounds(metered_node: AgentHarness) -> None:
    await metered_node.call("ADD")

    samples = await scrape(metered_node)

    buckets = samples["spiderpool_ipam_allocation_duration_seconds_bucket"]
    bounds = [labels["le"] for labels, _ in buckets]
    assert bounds == ["0.1", "0.3", "0.5", "1.0", "3.0", "5.0", "7.0", "10.0", "15.0", "+Inf"]
    assert buckets[-1][1] == 1
    mean = value(samples, "spiderpool_ipam_allocation_average_duration_seconds")
    assert mean == value(samples, "spiderpool_ipam_allocation_latest_duration_seconds") > 0


async def test_rdma_metrics_are_served_only_if_they_are_enabled(
    metered_node: AgentHarness, settings: Settings, memory_store: MemoryStore
) -> None:
    assert "orbweaver_rdma_reading_failures_total" not in await scrape(metered_node)

    node = settings._replace(
        node_name="node-2",
        socket_path=f"{settings.socket_path}2",
        metrics_enabled=True,
        rdma_metrics_enabled=True,
    )
    async with running(node, memory_store) as rdma_node:
        samples = await scrape(rdma_node)

    assert value(samples, "orbweaver_rdma_reading_failures_total") == 0
    assert value(samples, "orbweaver_rdma_samples_left_out") == 0


@needs_process_times
async def test_conflicts_store_calls_and_the_writer_are_measured(
    metered_node: AgentHarness,
) -> None:
    await metered_node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    before = await scrape(metered_node)
    await metered_node.add()
    await metered_node.add(CNI_CONTAINERID="another-sandbox")

    samples = await scrape(metered_node)

    # The second ADD needs two tries: it first assumes that no endpoint exists.
    assert value(samples, "orbweaver_allocation_conflicts_total") == 1
    assert value(samples, "orbweaver_allocation_tries_total") == 3
    assert value(samples, "orbweaver_writer_transactions_total") == 3
    assert value(samples, "orbweaver_writer_queue_depth") == 0
    assert value(samples, "orbweaver_writer_epoch") == 1
    assert value(samples, "orbweaver_ready") == 1
    assert value(samples, "orbweaver_requests_under_way") == 0
    assert value(samples, "orbweaver_view_revision") > 1
    name = "orbweaver_store_call_duration_seconds_count"
    committed = {"method": "commit", "outcome": "ok"}
    assert value(samples, name, **committed) - value(before, name, **committed) == 3
    assert value(samples, "process_resident_memory_bytes") > 0


async def test_there_is_no_metrics_port_by_default(agent: AgentHarness) -> None:
    assert agent.process.metrics_port is None
    assert agent.process.parts.metrics.allocation.histograms is None


# Traces


async def causes(agent: AgentHarness) -> list[Cause]:
    segments, _ = await LogReader(agent.store, agent.keys).catch_up(LOG_START)
    return [
        logged.cause
        for segment in segments
        if segment.writer == "node-1"
        for logged in segment.events()
    ]


@pytest.mark.parametrize(
    ("sent", "traceparent"),
    [
        (PARENT, PARENT),
        ("", ""),
        ("nonsense", ""),
        (f"{PARENT}-x", ""),
        (PARENT.upper(), ""),
        (f"ff{PARENT[2:]}", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
    ],
)
async def test_events_keep_the_trace_context_of_the_runtime_if_tracing_is_off(
    agent: AgentHarness, sent: str, traceparent: str
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    await agent.add(TRACEPARENT=sent)
    await agent.delete(TRACEPARENT=sent)

    assert await causes(agent) == [Cause("agent/node-1", "c-web-0", "", traceparent)] * 2


@pytest.mark.parametrize("conf", [b'{"name":"\xff"}', b'{"x":' + b"[" * 100_000])
async def test_a_traced_call_with_an_undecodable_configuration_gets_an_error_object(
    settings: Settings, memory_store: MemoryStore, conf: bytes
) -> None:
    with recorded_spans() as exporter:
        async with running(settings, memory_store) as node:
            error = (await node.call("ADD", conf=conf)).error

    assert error["code"] == UNDECODABLE_CODE
    assert "CNI ADD" in [span.name for span in exporter.get_finished_spans()]


@needs_real_time
async def test_a_request_is_a_trace_from_the_call_to_the_transaction(
    settings: Settings, memory_store: MemoryStore
) -> None:
    with recorded_spans() as exporter:
        async with running(settings, memory_store) as node:
            await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
            exporter.clear()
            await node.add(TRACEPARENT=PARENT, TRACESTATE="vendor=1")
            await node.delete()
            await node.call("ADD", conf=node.netconf(ipam={"default_ipv4_ippool": ["absent"]}))
            causes_written = await causes(node)

    # The event of the refused ADD is written later, in a span without a parent.
    spans = [
        span
        for span in exporter.get_finished_spans()
        if span.name != "ipam.append" or span.parent is not None
    ]
    names = [span.name for span in spans]
    assert names == [
        "ipam.append",
        "ipam.allocate",
        "CNI ADD",
        "ipam.append",
        "ipam.release",
        "CNI DEL",
        "ipam.allocate",
        "CNI ADD",
    ]
    transaction, allocate, request = spans[:3]
    assert span_id(parent_of=request) == "b7ad6b7169203331"
    assert context_of(transaction).trace_state["vendor"] == "1"
    assert (span_id(parent_of=allocate), span_id(parent_of=transaction)) == (
        span_id(request),
        span_id(allocate),
    )
    assert causes_written[0].traceparent == (
        f"00-0af7651916cd43dd8448eb211c80319c-{span_id(allocate)}-01"
    )
    assert request.attributes == {
        "cni.command": "ADD",
        "cni.plugin": "spiderpool",
        "cni.container_id": "c-web-0",
        "cni.network.name": "lan",
        "network.interface.name": "eth0",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-0",
        "k8s.pod.uid": "uid-web-0",
    }
    assert allocate.attributes is not None
    assert allocate.attributes["ipam.pool.names"] == ("lan",)
    assert transaction.attributes is not None
    assert transaction.attributes["ipam.outcome"] == "committed"
    failed_allocate, failed_request = spans[-2:]
    assert attributes_of(failed_allocate)["error.type"] == "AllocationError"
    assert attributes_of(failed_request)["error.type"] == "113"
    assert not failed_allocate.status.is_ok
    assert "IPPool" in (failed_request.status.description or "")


@needs_real_time
async def test_a_runtime_can_pass_the_trace_context_in_cni_args(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    arguments = agent.environment("ADD")["CNI_ARGS"].removeprefix("IgnoreUnknown=1;")

    await agent.add(CNI_ARGS=f"{arguments};TRACEPARENT={PARENT}")

    (cause,) = await causes(agent)
    assert cause.traceparent == PARENT


async def test_a_request_of_the_http_api_continues_the_trace_of_its_caller(
    settings: Settings, memory_store: MemoryStore
) -> None:
    path = settings.socket_path
    with recorded_spans() as exporter:
        async with running(settings, memory_store):
            await over_socket(path, "GET", "/v1/ipam/healthy", headers={"traceparent": PARENT})
            headers = {"traceparent": PARENT, "Content-Type": "application/json"}
            await over_socket(path, "POST", "/v1/ipam/ip", {}, headers=headers)

    (request,) = (span for span in exporter.get_finished_spans() if span.name != "ipam.append")
    assert request.name == "POST /v1/ipam/ip"
    assert span_id(parent_of=request) == "b7ad6b7169203331"
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/ipam/ip",
        "http.response.status_code": 422,
    }


def span_id(span: ReadableSpan | None = None, *, parent_of: ReadableSpan | None = None) -> str:
    """The ID of ``span``, or of the parent of ``parent_of``."""
    context = span.context if span else parent_of.parent if parent_of else None
    assert context is not None
    return f"{context.span_id:016x}"


# The agent's own log


def test_the_log_is_json_lines_with_fields_and_exceptions() -> None:
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "msg": "hello %s", "args": ("you",), "created": 0.0}
    )
    record.fields = {"node": "n", "path": Path("/run")}

    line = json.loads(JsonLines().format(record))

    assert line == {
        "level": "INFO",
        "ts": "1970-01-01T00:00:00.000Z",
        "logger": "x",
        "msg": "hello you",
        "node": "n",
        "path": "/run",
    }
    try:
        raise ValueError("no good")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "no good" in json.loads(JsonLines().format(record))["exception"]


def test_spiderpools_log_levels_apply() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        set_up_logging("warn", stream)
        logging.getLogger("a").info("quiet")
        logging.getLogger("a").warning("loud")
    finally:
        logging.captureWarnings(capture=False)
        root.handlers, root.level = handlers, level

    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_the_resource_of_spans_has_the_values_of_opentelemetrys_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=lab")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pods")
    exporter = SimpleSpanProcessor(InMemorySpanExporter())

    tracer = SdkTracer(exporter, "orbweaver-agent", "node-1", {"k8s.node.name": "node-1"})

    attributes = tracer.provider.resource.attributes
    assert attributes["service.name"] == "pods"
    assert attributes["service.version"] == __version__
    assert attributes["service.instance.id"] == "node-1"
    assert attributes["k8s.node.name"] == "node-1"
    assert attributes["deployment.environment"] == "lab"


def test_a_line_of_the_log_has_the_ids_of_its_span() -> None:
    record = logging.makeLogRecord({"msg": "hello"})
    with recorded_spans() as exporter:
        with span("work"):
            line = json.loads(JsonLines().format(record))
        outside = json.loads(JsonLines().format(record))

    (finished,) = exporter.get_finished_spans()
    assert line["trace_id"] == f"{context_of(finished).trace_id:032x}"
    assert line["span_id"] == span_id(finished)
    assert line["trace_flags"] == f"{context_of(finished).trace_flags:02x}"
    assert "trace_id" not in outside


async def test_the_histograms_have_the_traces_of_requests_as_exemplars(
    settings: Settings, memory_store: MemoryStore
) -> None:
    with recorded_spans() as exporter:
        async with running(settings._replace(metrics_enabled=True), memory_store) as node:
            await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
            await node.add(TRACEPARENT=PARENT)
            port = node.process.metrics_port
            assert port is not None
            accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
            reply = await over_tcp(port.port, "/metrics", headers=accept)
            samples = await scrape(node)

    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    families = list(openmetrics_families(reply.body.decode()))  # type: ignore[no-untyped-call]
    name = "spiderpool_ipam_allocation_duration_seconds_bucket"
    exemplars = [
        sample.exemplar
        for family in families
        for sample in family.samples
        if sample.name == name and sample.exemplar is not None
    ]
    request = next(span for span in exporter.get_finished_spans() if span.name == "CNI ADD")
    assert [exemplar.labels for exemplar in exemplars] == [
        {"trace_id": PARENT.split("-")[1], "span_id": span_id(request)}
    ]
    assert value(samples, name, le="+Inf") == 1
