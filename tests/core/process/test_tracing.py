"""The trace context of a caller continues in threads, other tasks and other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from core.domain.events import Cause, PoolRetired
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Outcome, Proposal
from core.eventstore.keys import Keys
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from core.process import spans, tracing
from core.process.tracing import TraceContext
from tests.support.spans import attributes_of, context_of, parent_of, recorded_spans

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
CALLER = TraceContext(TRACEPARENT, tracestate="vendor=1", baggage="team=net")


def test_a_request_to_another_process_continues_the_trace_of_the_caller() -> None:
    with recorded_spans() as exporter:
        tracer = tracing.current_tracer()
        assert tracer is not None
        with tracer.request("CNI ADD", CALLER, {}):
            headers = tracing.headers()
        outside = tracing.headers()

    (span,) = exporter.get_finished_spans()
    assert headers["traceparent"].split("-")[1:3] == [TRACE_ID, f"{context_of(span).span_id:016x}"]
    assert (headers["tracestate"], headers["baggage"]) == ("vendor=1", "team=net")
    assert outside == {}


def test_the_outgoing_context_prefers_the_current_span_to_the_given_traceparent() -> None:
    without_tracer = tracing.outgoing_context(TRACEPARENT)
    with recorded_spans() as exporter:  # sets a tracer for the block
        outside = tracing.outgoing_context(TRACEPARENT)
        with tracing.within(TraceContext(baggage="team=net")):
            with_baggage = tracing.outgoing_context(TRACEPARENT)
        with tracing.span("work"):
            inside = tracing.outgoing_context(TRACEPARENT)

    (span,) = exporter.get_finished_spans()
    assert without_tracer == outside == TraceContext(TRACEPARENT)
    assert with_baggage == TraceContext(TRACEPARENT, baggage="team=net")
    assert inside.traceparent.split("-")[2] == f"{context_of(span).span_id:016x}"


def test_no_span_is_created_without_a_tracer() -> None:
    with tracing.span("work") as span, tracing.child_span("part") as part:
        assert (span, part) == (None, None)
        assert (tracing.origin(), tracing.headers(), tracing.log_fields()) == (None, {}, {})


def test_a_child_span_is_created_only_inside_a_trace() -> None:
    with recorded_spans() as exporter:
        with tracing.child_span("read"):
            pass
        with tracing.span("request"), tracing.child_span("read"):
            pass

    assert [span.name for span in exporter.get_finished_spans()] == ["read", "request"]


async def test_a_deadline_marks_every_open_span_as_failed() -> None:
    async def request() -> None:
        with tracing.span("request"):
            async with asyncio.timeout(0):
                with tracing.child_span("Txn", "client"):
                    await asyncio.Event().wait()

    with recorded_spans() as exporter, pytest.raises(TimeoutError):
        await request()

    failures = [attributes_of(span)["error.type"] for span in exporter.get_finished_spans()]
    assert failures == ["CancelledError", "TimeoutError"]


async def test_a_thread_continues_the_trace_only_with_in_current_context() -> None:
    def call() -> None:
        with tracing.child_span("netlink send"):
            pass

    with recorded_spans() as exporter, tracing.span("request"):
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, tracing.in_current_context(call))
        await loop.run_in_executor(None, call)

    (send,) = (span for span in exporter.get_finished_spans() if span.name != "request")
    assert parent_of(send, exporter.get_finished_spans()) == "request"


async def test_proposals_link_to_the_first_proposal_of_their_transaction(
    memory_store: MemoryStore, keys: Keys
) -> None:
    async def append(writer: Writer, number: int) -> Outcome:
        with tracing.span(f"ADD {number}"):
            draft = EventDraft(writer.event_id(), Cause("test"), PoolRetired("lan"))
            return await writer.append(Proposal((draft,), guards=(), writes=()))

    with recorded_spans() as exporter:
        writer = Writer(memory_store, keys, "node-1")
        await writer.open()
        await asyncio.gather(*(append(writer, number) for number in range(3)))
        await writer.close()

    assert writer.transactions == 1
    appends = [span for span in exporter.get_finished_spans() if span.name == "ipam.append"]
    linked_spans = [span for span in appends if span.links]
    (first_append,) = (span for span in appends if not span.links)
    assert len(linked_spans) == 2
    for span in linked_spans:
        (link,) = span.links
        assert link.context.span_id == context_of(first_append).span_id
        assert link.attributes == {"ipam.link": "committed-with"}
    assert len({attributes_of(span)["ipam.revision"] for span in appends}) == 1


@pytest.mark.parametrize(
    ("context", "valid"),
    [
        (CALLER, CALLER),
        (CALLER._replace(tracestate="x" * 8_193), CALLER._replace(tracestate="")),
        (CALLER._replace(baggage="x" * 8_193), CALLER._replace(baggage="")),
        (CALLER._replace(traceparent="nonsense"), TraceContext(baggage="team=net")),
    ],
)
def test_invalid_parts_of_a_trace_context_are_dropped(
    context: TraceContext, valid: TraceContext
) -> None:
    assert tracing.trace_context(*context) == valid


def test_close_does_not_wait_for_a_silent_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = _SilentCollector()
    monkeypatch.setattr(spans, "CLOSE_S_MAX", 0.01)
    monkeypatch.setattr(spans, "_otlp_exporter", lambda _: exporter)
    tracer = spans.otlp_tracer("collector:4317", "orbctl", "one")
    with tracer.span("orbctl", "internal", {}):
        pass

    tracer.close()

    assert exporter.closed.is_set()
    assert not exporter.export_timed_out


class _SilentCollector(SpanExporter):
    """An exporter whose ``export`` blocks until ``shutdown``, at most ``GIVE_UP_S``."""

    GIVE_UP_S = 5.0

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.export_timed_out = False

    def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
        self.export_timed_out = not self.closed.wait(self.GIVE_UP_S)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.closed.set()
