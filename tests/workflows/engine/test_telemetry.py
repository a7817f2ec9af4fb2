"""Metrics and spans have Temporal's names; the trace of an execution is linked to its cause."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from core.errors import CallRejected
from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import ActivityLimits, Basket, Chain, Counting, Waiting
from tests.support.spans import attributes_of, context_of, parent_of
from workflows.api.options import StartOptions
from workflows.engine.client.client import Client
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.worker import Worker

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


async def _start_worker(engine: EngineHarness, telemetry: Telemetry) -> None:
    worker = Worker(engine.store, engine.keys, engine.registry, name="w", telemetry=telemetry)
    engine.workers.append(worker)
    worker.start()
    await within(worker.ready())


async def test_a_trace_is_linked_to_its_cause_and_contains_the_activity(
    engine: EngineHarness,
) -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers=tracers, meters=meters)
    engine.activities.failures_left = 1
    await _start_worker(engine, telemetry)
    async with Client(engine.store, engine.keys, telemetry=telemetry) as client:
        options = StartOptions(traceparent=TRACEPARENT, link_attributes={"link": "cause"})
        await within((await client.start(Chain, ["a"], id="one", options=options)).result())

    spans = exporter.get_finished_spans()
    assert [(span.name, parent_of(span, spans)) for span in spans] == [
        ("StartWorkflow:Chain", ""),
        ("RunWorkflow:Chain", "StartWorkflow:Chain"),
        ("StartActivity:work", "StartWorkflow:Chain"),
        ("RunActivity:work", "StartActivity:work"),
        ("RunActivity:work", "StartActivity:work"),
        ("CompleteWorkflow:Chain", "StartWorkflow:Chain"),
    ]
    (link,) = spans[0].links
    assert f"{link.context.trace_id:032x}" == TRACE_ID
    assert link.attributes == {"link": "cause"}
    failed, succeeded = (span for span in spans if span.name == "RunActivity:work")
    assert attributes_of(failed)["error.type"] == "OSError"
    assert (failed.status.is_ok, succeeded.status.is_ok) == (False, True)
    assert failed.status.description == "a did not work"
    assert [attributes_of(span)["activity.attempt"] for span in (failed, succeeded)] == [1, 2]

    data = reader.get_metrics_data()
    assert data is not None
    metrics = {
        metric.name: metric.data.data_points
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    exemplars = [
        exemplar.span_id
        for point in metrics["activity_execution_latency"]
        for exemplar in point.exemplars
    ]
    assert set(exemplars) <= {context_of(span).span_id for span in (failed, succeeded)}
    assert exemplars
    assert set(metrics) >= {
        "workflow_completed",
        "workflow_endtoend_latency",
        "workflow_task_execution_latency",
        "activity_execution_failed",
        "activity_execution_latency",
    }


async def test_the_error_type_of_a_timed_out_attempt_names_the_timeout(
    engine: EngineHarness,
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers=tracers)
    await _start_worker(engine, telemetry)
    assert (
        await engine.run_workflow(Waiting, "wait", ActivityLimits(0.05, maximum_attempts=1))
        == "TimeoutError StartToClose"
    )

    (attempt,) = (span for span in exporter.get_finished_spans() if "RunActivity" in span.name)
    assert attributes_of(attempt)["error.type"] == "StartToClose"


async def test_messages_to_an_execution_have_spans_with_temporals_names(
    engine: EngineHarness,
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers=tracers)
    await _start_worker(engine, telemetry)
    async with Client(engine.store, engine.keys, telemetry=telemetry) as client:
        await client.signal_with_start(Basket, id="one", signal="put", signal_args=["a"])
        await client.query("one", "count")
        await client.signal("one", "put", "b")
        await client.update("one", "take", "a")
        with pytest.raises(CallRejected):
            await client.update("one", "take", "c")

    spans = exporter.get_finished_spans()
    start = "SignalWithStartWorkflow:Basket"
    assert {(span.name, parent_of(span, spans)) for span in spans} == {
        ("SignalWorkflow:put", ""),
        (start, ""),
        ("RunWorkflow:Basket", start),
        ("HandleSignal:put", start),
        ("HandleSignal:put", "SignalWorkflow:put"),
        ("QueryWorkflow:count", ""),
        ("HandleQuery:count", "QueryWorkflow:count"),
        ("StartWorkflowUpdate:take", ""),
        ("HandleUpdate:take", "StartWorkflowUpdate:take"),
    }
    rejected = [span for span in spans if "error.type" in attributes_of(span)]
    assert [(span.name, span.status.is_ok) for span in rejected] == [
        ("StartWorkflowUpdate:take", False)
    ]


async def test_a_continued_run_has_a_trace_linked_to_the_first_run(
    engine: EngineHarness,
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers=tracers)
    await _start_worker(engine, telemetry)
    async with Client(engine.store, engine.keys, telemetry=telemetry) as client:
        await within((await client.start(Counting, 1, id="one")).result())

    spans = exporter.get_finished_spans()
    start, continued = context_of(spans[0]), spans[3]
    assert [(span.name, parent_of(span, spans)) for span in spans] == [
        ("StartWorkflow:Counting", ""),
        ("RunWorkflow:Counting", "StartWorkflow:Counting"),
        ("CompleteWorkflow:Counting", "StartWorkflow:Counting"),
        ("RunWorkflow:Counting", ""),
        ("CompleteWorkflow:Counting", ""),
    ]
    assert [link.context.span_id for link in continued.links] == [start.span_id]
    assert context_of(continued).trace_id != start.trace_id


async def test_a_new_worker_exports_counts_of_closed_runs_as_zero(engine: EngineHarness) -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meters=MeterProvider([reader]))

    engine.workers.append(
        Worker(engine.store, engine.keys, engine.registry, name="w", telemetry=telemetry)
    )

    data = reader.get_metrics_data()
    assert data is not None
    counts = {
        (metric.name, str((point.attributes or {})["workflow_type"])): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }
    assert set(counts.values()) == {0}
    assert {("workflow_paused", "Chain"), ("workflow_failed", "Basket")} <= counts.keys()
