"""The trace of a reclaim contains the release, and has a link to the ADD that made the claim."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import AddressesReleased, RecordDefined
from core.domain.evolution import RevisedClaim
from core.eventstore.claim_cause import cause_of
from core.eventstore.memory_store import MemoryStore
from core.process.spans import SdkTracer
from tests.support import node_harness
from tests.support.engine_harness import eventually
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool
from tests.workflows.jobs.reclaim.test_reclaim_from_the_log import pods_with_claims, running_leader
from workflows.engine.telemetry import Telemetry

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


async def test_a_reclaim_has_a_link_to_the_add_and_the_release_names_the_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry(
        tracers=SdkTracer(SimpleSpanProcessor(exporter), "orbweaver-controller", "one").provider
    )
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
        await node.apply(ApplyRecord(RecordDefined("Pod", "shop", "web-0")))
        monkeypatch.setattr(
            node_harness, "TEST_CAUSE", TEST_CAUSE._replace(traceparent=TRACEPARENT)
        )
        await node.add(pod("web-0"))
        monkeypatch.undo()
        async with running_leader(node, telemetry):
            await node.apply(DeleteRecord("Pod", "shop", "web-0"))

            async def is_free() -> bool:
                return "web-0" not in await pods_with_claims(node)

            await eventually(is_free)
        (release,) = [
            recorded
            for recorded in await node.log()
            if isinstance(recorded.event, AddressesReleased) and recorded.event.name == "web-0"
        ]

    spans = exporter.get_finished_spans()
    linked_spans = [
        span
        for span in spans
        if span.name == "StartWorkflow:reclaim-pod"
        and any(f"{link.context.trace_id:032x}" == TRACE_ID for link in span.links)
    ]
    assert len(linked_spans) == 1
    (link,) = linked_spans[0].links
    assert link.attributes is not None
    assert (link.attributes["ipam.link"], link.attributes["k8s.pod.name"]) == (
        "claimed-by",
        "web-0",
    )
    attempts = {
        f"{span.context.span_id:016x}" for span in spans if span.name == "RunActivity:reclaim-pod"
    }
    _, trace_id, span_id, _ = release.cause.traceparent.split("-")
    assert span_id in attempts
    assert linked_spans[0].context is not None
    assert trace_id == f"{linked_spans[0].context.trace_id:032x}"
    assert release.cause.actor == "orbweaver-controller/reclaim-pod"
    assert release.cause.correlation_id == "reclaim/shop/web-0/uid-web-0"


async def test_the_cause_of_a_claim_is_the_cause_of_its_event() -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
        for name in ("web-0", "web-1", "web-2"):
            await node.add(pod(name))
        claims: list[RevisedClaim] = list((await node.read_ledger()).claims.values())
        await node.apply(pool("other", "10.7.0.1", subnet="10.7.0.0/16"))

        causes = [await cause_of(node.store, node.keys, claim) for claim in claims]
        unknown = claims[0]._replace(claim=claims[0].claim._replace(event="unknown.1.1"))

        assert causes == [TEST_CAUSE] * 3
        assert await cause_of(node.store, node.keys, unknown) is None
