"""An agent with ClusterIPs enabled serves the Services in the event log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.errors import DatapathError
from core.eventstore.memory_store import MemoryStore
from core.manifests.commands import apply_command
from nodeagent.clusterip import reconciler
from nodeagent.clusterip.bpf_installation import PIN_DIRECTORY, Installation
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.clusterip.map_plan import MapPlan, limit_frontends
from nodeagent.settings.agent_settings import Settings
from tests.nodeagent.clusterip.clusterip_harness import (
    BACKEND_ADDRESSES,
    SERVICE_ADDRESS,
    SERVICE_PORT,
    ClusterIPHarness,
)
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import until
from tests.support.manifests import load_documents

pytestmark = pytest.mark.netns

MANIFESTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  clusterIPs: [{SERVICE_ADDRESS[4]}, "{SERVICE_ADDRESS[6]}"]
  ports: [{{name: http, port: {SERVICE_PORT}, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [{BACKEND_ADDRESSES[4][0]}]}}]
"""


def connect_outcome(harness: ClusterIPHarness, address: str = SERVICE_ADDRESS[4]) -> str:
    """Connect to the Service; return "served" or the name of the error.

    ConnectionRefusedError: the Service has no backends. OSError: no Service has this address.
    """
    with harness.socket(6 if ":" in address else 4) as client:
        try:
            client.connect((address, SERVICE_PORT))
        except OSError as error:
            return type(error).__name__
    return "served"


@asynccontextmanager
async def serving(
    harness: ClusterIPHarness, settings: Settings, store: MemoryStore, **changes: object
) -> AsyncIterator[AgentHarness]:
    cluster_ip = ClusterIpSettings(
        enabled=True, cgroup=str(harness.cgroup), bpffs=str(harness.bpffs), host_network=True
    )._replace(**changes)  # type: ignore[arg-type]
    async with running(settings._replace(cluster_ip=cluster_ip), store) as node:
        yield node


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def agent(
    harness: ClusterIPHarness, settings: Settings, store: MemoryStore
) -> AsyncIterator[AgentHarness]:
    harness.mount_bpffs()
    harness.server(BACKEND_ADDRESSES[4][0])
    async with serving(harness, settings, store) as node:
        await node.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: connect_outcome(harness) == "served")
        yield node


async def test_deleted_services_and_endpoint_slices_are_no_longer_served(
    harness: ClusterIPHarness, agent: AgentHarness
) -> None:
    await until(lambda: connect_outcome(harness, SERVICE_ADDRESS[6]) == "ConnectionRefusedError")
    await agent.apply(DeleteRecord("EndpointSlice", "shop", "web-1"))
    await until(lambda: connect_outcome(harness) == "ConnectionRefusedError")
    await agent.apply(DeleteRecord("Service", "shop", "web"))
    await until(lambda: connect_outcome(harness, SERVICE_ADDRESS[6]) == "OSError")
    assert connect_outcome(harness) == "OSError"


async def test_services_are_served_without_an_agent_until_the_next_agent_updates_them(
    harness: ClusterIPHarness, settings: Settings, agent: AgentHarness
) -> None:
    await agent.process.stop()
    assert connect_outcome(harness) == "served"
    empty_store = MemoryStore()
    async with serving(harness, settings, empty_store) as next_agent:
        # The new store has no Service.
        await until(lambda: connect_outcome(harness) == "OSError")
        await next_agent.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: connect_outcome(harness) == "served")


async def test_an_agent_with_cluster_ips_disabled_removes_pinned_programs(
    harness: ClusterIPHarness, settings: Settings, store: MemoryStore, agent: AgentHarness
) -> None:
    await agent.process.stop()
    async with serving(harness, settings, store, enabled=False):
        assert connect_outcome(harness) == "OSError"
        assert not (harness.bpffs / PIN_DIRECTORY).exists()


async def test_metrics_show_backends_and_attached_programs(agent: AgentHarness) -> None:
    counts = _counts(agent)
    await until(lambda: counts["attached"]() == counts["backends"]() == 1)
    assert counts["left_out"]() == 0
    assert counts["failures"]() == 0


async def test_programs_are_attached_when_the_control_group_is_created(
    harness: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "PAUSE_S_MIN", 0.01)
    late_cgroup = harness.cgroup.parent / f"{harness.cgroup.name}-later"
    async with serving(harness, settings, store, cgroup=str(late_cgroup)) as node:
        counts = _counts(node)
        await until(counts["failures"])
        assert counts["attached"]() == 0
        late_cgroup.mkdir()
        await until(counts["attached"])
        late_cgroup.rmdir()
        # Any record starts a round, and a round checks the control group.
        await node.apply(ApplyRecord(RecordDefined("Node", "", "node-1")))
        await until(lambda: not counts["attached"]())
        late_cgroup.mkdir()
        await until(counts["attached"])
    late_cgroup.rmdir()


async def test_a_refused_write_is_retried_from_the_current_contents_of_the_maps(
    harness: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconciler, "PAUSE_S_MIN", 0.01)
    write, refusals = Installation.write, iter(range(3))

    def refuse_at_first(installation: Installation, steps: MapPlan) -> None:
        if steps.write_count and next(refusals, None) is not None:
            write(installation, steps._replace(put_services={}))
            raise DatapathError("the kernel refused the write")
        write(installation, steps)

    monkeypatch.setattr(Installation, "write", refuse_at_first)
    harness.server(BACKEND_ADDRESSES[4][0])
    async with serving(harness, settings, store) as node:
        await node.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: connect_outcome(harness) == "served")
        assert _counts(node)["failures"]() == 3
    assert caplog.text.count("the kernel refused the write") == 1


async def test_frontends_above_a_limit_are_logged(
    harness: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconciler, "limit_frontends", partial(limit_frontends, frontends_max=1))
    async with serving(harness, settings, store) as node:
        await node.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: _counts(node)["left_out"]() == 1)
        assert _counts(node)["frontends"]() == 1
    assert "FRONTENDS_MAX is reached" in caplog.text
    assert f"beginning with {SERVICE_ADDRESS[6]} port {SERVICE_PORT}" in caplog.text


async def test_a_pod_record_causes_no_write_to_the_maps(
    harness: ClusterIPHarness, agent: AgentHarness
) -> None:
    before = _counts(agent)["map_writes"]()
    await agent.apply(ApplyRecord(RecordDefined("Pod", "shop", "web-0")))
    assert connect_outcome(harness) == "served"
    assert _counts(agent)["map_writes"]() == before


def _counts(agent: AgentHarness) -> dict[str, Callable[[], float]]:
    """Name of a ClusterIP metric, without the prefix -> a reader of the metric."""
    prefix = "orbweaver_clusterip_"
    readings = agent.process.parts.metrics.readings
    return {
        reading.name.removeprefix(prefix): reading.value
        for reading in readings
        if prefix in reading.name
    }
