"""The agent with ClusterIPs enabled: records are applied, sockets are served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.errors import DatapathError
from core.eventstore.memory import MemoryStore
from core.manifests.commands import apply_command
from core.manifests.manifest_parser import load_documents
from nodeagent.clusterip import reconciler
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.clusterip.installation import DIRECTORY, Installation
from nodeagent.clusterip.map_plan import MapPlan, fit
from nodeagent.settings.values import Settings
from tests.nodeagent.clusterip.clusterip_harness import BACKENDS, PORT, SERVICE, ClusterIPHarness
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import until

pytestmark = pytest.mark.netns

PATIENCE_S = 60.0
MANIFESTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  clusterIPs: [{SERVICE[4]}, "{SERVICE[6]}"]
  ports: [{{name: http, port: {PORT}, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [{BACKENDS[4][0]}]}}]
"""


def connects(services: ClusterIPHarness, address: str = SERVICE[4]) -> str:
    """The result of a connection to the Service."""
    with services.socket(6 if ":" in address else 4) as client:
        try:
            client.connect((address, PORT))
        except OSError as error:
            return type(error).__name__
    return "served"


@asynccontextmanager
async def serving(
    services: ClusterIPHarness, settings: Settings, store: MemoryStore, **changes: object
) -> AsyncIterator[AgentHarness]:
    said = ClusterIpSettings(
        enabled=True, cgroup=str(services.cgroup), bpffs=str(services.bpffs), host_network=True
    )._replace(**changes)  # type: ignore[arg-type]
    async with running(settings._replace(cluster_ip=said), store) as node:
        yield node


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def agent(
    services: ClusterIPHarness, settings: Settings, store: MemoryStore
) -> AsyncIterator[AgentHarness]:
    """An agent that serves Service ``web``, with a bpffs."""
    services.mount_bpffs()
    services.server(BACKENDS[4][0])
    async with serving(services, settings, store) as one:
        await one.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: _counts(one)["frontends"]() == 2)
        assert connects(services) == "served"
        yield one


async def test_records_become_services_and_go_with_them(
    services: ClusterIPHarness, agent: AgentHarness
) -> None:
    assert connects(services, SERVICE[6]) == "ConnectionRefusedError"
    await agent.apply(DeleteRecord("EndpointSlice", "shop", "web-1"))
    await until(lambda: connects(services) == "ConnectionRefusedError")
    await agent.apply(DeleteRecord("Service", "shop", "web"))
    await until(lambda: connects(services) == "OSError")


async def test_what_is_served_outlives_the_agent_and_is_brought_up_to_date_by_the_next(
    services: ClusterIPHarness, settings: Settings, agent: AgentHarness
) -> None:
    await agent.process.stop()
    assert connects(services) == "served"
    another = MemoryStore()
    async with serving(services, settings, another) as next_one:
        # Its cache has synced without a Service: the old one is removed.
        await until(lambda: connects(services) == "OSError")
        await next_one.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: connects(services) == "served")


async def test_an_agent_that_is_switched_off_takes_away_what_was_pinned(
    services: ClusterIPHarness, settings: Settings, store: MemoryStore, agent: AgentHarness
) -> None:
    await agent.process.stop()
    async with serving(services, settings, store, enabled=False):
        assert connects(services) == "OSError"
        assert not (services.bpffs / DIRECTORY).exists()


async def test_counts_are_told_to_whoever_scrapes(agent: AgentHarness) -> None:
    counts = _counts(agent)
    assert counts["attached"]() == 1
    assert counts["backends"]() == 1
    assert counts["left_out"]() == 0
    assert counts["failures"]() == 0


async def test_a_control_group_that_comes_later_is_waited_for(
    services: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "PAUSE_S_MIN", 0.01)
    later = services.cgroup.parent / f"{services.cgroup.name}-later"
    async with serving(services, settings, store, cgroup=str(later)) as node:
        counts = _counts(node)
        await until(counts["failures"])
        assert counts["attached"]() == 0
        later.mkdir()
        await until(counts["attached"])
        later.rmdir()
        await node.apply(ApplyRecord(RecordDefined("Node", "", "node-1")))
        await until(lambda: not counts["attached"]())
        later.mkdir()
        await until(counts["attached"])
    later.rmdir()


async def test_what_the_kernel_refuses_is_tried_again_from_what_is_there(
    services: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconciler, "PAUSE_S_MIN", 0.01)
    write, refusals = Installation.write, iter(range(3))

    def refuse_at_first(installation: Installation, steps: MapPlan) -> None:
        if steps.writes and next(refusals, None) is not None:
            write(installation, steps._replace(put_services={}))
            raise DatapathError("the kernel is out of sorts")
        write(installation, steps)

    monkeypatch.setattr(Installation, "write", refuse_at_first)
    services.server(BACKENDS[4][0])
    async with serving(services, settings, store) as node:
        await node.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: connects(services) == "served")
        assert _counts(node)["failures"]() == 3
    assert caplog.text.count("out of sorts") == 1


async def test_what_is_beyond_a_limit_is_told_by_its_name(
    services: ClusterIPHarness,
    settings: Settings,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconciler, "fit", partial(fit, frontends_max=1))
    async with serving(services, settings, store) as node:
        await node.apply(*map(apply_command, load_documents(MANIFESTS)))
        await until(lambda: _counts(node)["left_out"]() == 1)
        assert _counts(node)["frontends"]() == 1
    assert "FRONTENDS_MAX is reached" in caplog.text
    assert f"the first is {SERVICE[6]}:{PORT}" in caplog.text


async def test_other_records_do_not_matter(services: ClusterIPHarness, agent: AgentHarness) -> None:
    before = _counts(agent)["map_writes"]()
    await agent.apply(ApplyRecord(RecordDefined("Pod", "shop", "web-0")))
    assert connects(services) == "served"
    assert _counts(agent)["map_writes"]() == before


def _counts(agent: AgentHarness) -> dict[str, Callable[[], float]]:
    prefix = "orbweaver_clusterip_"
    readings = agent.process.parts.metrics.readings
    return {one.name.removeprefix(prefix): one.value for one in readings if prefix in one.name}
