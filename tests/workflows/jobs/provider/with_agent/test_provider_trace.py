"""A request to a network provider belongs to the trace of the ADD that waits for the bind."""

from __future__ import annotations

import pytest

from core.eventstore.etcd import EtcdStore
from core.process.spans import SdkTracer
from core.process.tracing import current_tracer
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import running
from tests.support.spans import context_of, parent_of, recorded_spans
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from tests.workflows.jobs.provider.with_agent.provider_harness import (
    ConfiguredNetworks,
    ProviderHarness,
)

pytestmark = pytest.mark.etcd

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


async def test_the_provider_gets_the_trace_and_the_baggage_of_the_runtime(
    etcd_store: EtcdStore, settings: Settings
) -> None:
    networks = ConfiguredNetworks({"eth0": "auto"})
    with recorded_spans() as exporter:
        tracer = current_tracer()
        assert isinstance(tracer, SdkTracer)
        async with (
            FakeProvider() as provider,
            running(settings, etcd_store, networks=networks) as node,
        ):
            await node.pool("lan", "10.6.0.0/16", "10.6.0.10")
            harness = ProviderHarness(node, provider, networks)
            await harness.start_controller(tracers=tracer.provider)
            await node.add(TRACEPARENT=TRACEPARENT, BAGGAGE="team=net")
            await harness.cleanup_stack.aclose()

    spans = exporter.get_finished_spans()
    (post,) = (span for span in spans if span.name == "POST")
    assert parent_of(post, spans) == "RunActivity:allocate-ips"
    assert f"{context_of(post).trace_id:032x}" == TRACE_ID
    (headers,) = provider.headers
    assert headers["baggage"] == "team=net"
    assert headers["traceparent"].split("-")[2] == f"{context_of(post).span_id:016x}"
