"""An ADD detects conflicting hosts on real links.

The tests cover Spiderpool's cases C00007, C00009, C00018 and C00019
(docs/contributing/compatibility.md, "Cases").

The fixture ``link`` is a bridge. A station is a network namespace with an eth0 on the bridge.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.domain.configuration.commands import LiftQuarantine
from core.domain.model import Endpoint
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import CONFLICT_CODE, DETECTION_FAILED, GATEWAY_UNREACHABLE
from nodeagent.conflict_detection.detector import DetectionResult
from nodeagent.handlers.conflict_probe import ROUNDS_MAX
from nodeagent.handlers.withdrawal_handler import ADDRESSES_OF_A_HOST_MAX
from nodeagent.pod_facts import FactsSource, Liveness
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.link import Link, Station, ip
from tests.support.spans import attributes_of, parent_of, recorded_spans

GATEWAY = "10.6.0.1"
REPLICA = {"owner_kind": "StatefulSet", "owner_name": "db", "owner_api_version": "apps/v1"}


class AgentRunner(Protocol):
    """Runs an agent with changed settings."""

    def __call__(
        self, facts: FactsSource | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[AgentHarness]: ...


class LateMigrationTarget(FactsSource):
    """The target Pod of a live migration, which is unknown until an ADD loads it."""

    is_loaded = False

    async def load_pod(self, reference: PodReference) -> None:
        self.is_loaded = True

    def facts(self, reference: PodReference) -> RequestFacts:
        pod = PodFacts("shop", reference.name, reference.uid, "node-1", known=False)
        if self.is_loaded:
            pod = pod._replace(known=True, fixed="vm", endpoint_name="vm-a", migrating=True)
        return RequestFacts(pod, NamespaceFacts("shop"), self.node())

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        return self.facts(reference) if self.is_loaded else None

    async def confirm_pod_exists(self, reference: PodReference) -> None: ...

    def liveness(self, reference: PodReference) -> Liveness:
        return Liveness(alive=None)

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        return self.liveness(reference)

    def node(self) -> NodeFacts:
        return NodeFacts("node-1")

    def endpoint_validity(self, endpoint: Endpoint) -> None: ...

    async def confirm_endpoint(self, endpoint: Endpoint) -> None: ...


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ow-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run_agent(directory: Path) -> AgentRunner:

    @asynccontextmanager
    async def serve(
        facts: FactsSource | None = None, **changes: Any
    ) -> AsyncIterator[AgentHarness]:
        settings = Settings(
            node_name="node-1",
            socket_path=str(directory / "a.sock"),
            plugin_log_path=str(directory / "plugin.log"),
            health_port=0,
            metrics_port=0,
            address_order="sequential",
            cool_down_s=0,
            detect_conflicts=True,
        )._replace(**changes)
        async with running(settings, MemoryStore(), facts=facts) as node:
            yield node

    return serve


async def create_lan_pool(agent: AgentHarness, *ips: str, **fields: Any) -> None:
    await agent.pool("lan", "10.6.0.0/24", *(ips or ("10.6.0.10-10.6.0.20",)), **fields)


async def quarantine_of(agent: AgentHarness, address: str) -> str:
    """Wait until an address is quarantined; return the evidence."""
    view = agent.process.parts.view
    await view.wait_for(lambda: address in view.current.quarantine)
    return evidence_text(view.current.quarantine[address])


async def test_an_add_returns_another_address_after_a_conflict(
    link: Link, run_agent: AgentRunner
) -> None:
    conflicting_host, pod = link.station("10.6.0.10/24"), link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node)

        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.11/24"]

        evidence = await quarantine_of(node, "10.6.0.10")
        assert evidence == (
            f"container c-web-0; MAC {conflicting_host.mac} on node-1/eth0 seen by agent/node-1"
        )
        assert set(await node.claims()) == {"10.6.0.11"}
        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.11/24"], (
            "a repeated ADD must not change it"
        )


async def test_the_target_of_a_migration_is_not_probed_for_conflicts_if_its_pod_was_unknown(
    link: Link, run_agent: AgentRunner
) -> None:
    link.station("10.6.0.10/24")  # the source Pod of the migration
    pod = link.station(up=False)
    async with run_agent(LateMigrationTarget()) as node:
        await create_lan_pool(node)

        assert await node.add("launcher-2", CNI_NETNS=pod.netns) == ["10.6.0.10/24"]
        assert node.process.parts.view.current.quarantine == {}


async def test_a_conflict_on_the_last_address_of_a_pool_is_reported(
    link: Link, run_agent: AgentRunner
) -> None:
    conflicting_host, pod = link.station("10.6.0.10/24"), link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node, "10.6.0.10")

        reply = await node.call("ADD", CNI_NETNS=pod.netns)

        assert reply.error["code"] == CONFLICT_CODE
        assert (
            "ip conflict: pod's interface eth0 with an conflicting ip 10.6.0.10, 10.6.0.10 is"
            f" located at {conflicting_host.mac}; and there is no other address: "
        ) in reply.error["msg"]
        assert "all IP addresses used out" in reply.error["msg"]
        assert await node.claims() == {}

        ip("-n", Path(conflicting_host.netns).name, "address", "flush", "dev", "eth0")
        await node.apply(LiftQuarantine("10.6.0.10"))
        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.10/24"]


async def test_an_add_fails_after_three_conflicts(link: Link, run_agent: AgentRunner) -> None:
    link.station(*(f"10.6.0.{number}/24" for number in range(10, 15)))
    pod = link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node)

        reply = await node.call("ADD", CNI_NETNS=pod.netns)

        assert reply.error["code"] == CONFLICT_CODE
        assert "3 addresses were tried" in reply.error["msg"]
        assert await node.claims() == {}
        await quarantine_of(node, "10.6.0.12")
        assert set(node.process.parts.view.current.quarantine) == {
            "10.6.0.10",
            "10.6.0.11",
            "10.6.0.12",
        }


async def test_a_host_that_answers_for_all_addresses_cannot_quarantine_a_whole_pool(
    link: Link, run_agent: AgentRunner
) -> None:
    """Without a limit, each retry of kubelet would quarantine three more addresses."""
    proxy = link.station(*(f"10.6.0.{number}/24" for number in range(10, 40)))
    pod = link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node, "10.6.0.10-10.6.0.39")

        errors = [(await node.call("ADD", CNI_NETNS=pod.netns)).error for _ in range(8)]

        assert {error["code"] for error in errors} == {CONFLICT_CODE}
        limit_text = f"{ADDRESSES_OF_A_HOST_MAX} addresses are in quarantine because of this MAC"
        assert limit_text in errors[-1]["msg"]
        assert proxy.mac in errors[-1]["msg"]
        # The ADD that reaches the limit may quarantine one more address in each remaining round.
        quarantined_max = ADDRESSES_OF_A_HOST_MAX + ROUNDS_MAX - 1
        assert len(node.process.parts.view.current.quarantine) <= quarantined_max
        assert await node.claims() == {}


async def test_an_add_of_a_replica_fails_until_the_conflicting_host_gives_up_the_address(
    link: Link, run_agent: AgentRunner
) -> None:
    conflicting_host, pod = link.station("10.6.0.10/24"), link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node)
        await node.pod("db-0", {}, **REPLICA)

        reply = await node.call("ADD", "db-0", CNI_NETNS=pod.netns)

        assert reply.error["code"] == CONFLICT_CODE
        assert "ip conflict" in reply.error["msg"]
        assert "forbid releasing IPs for stateful workload" in reply.error["msg"]
        assert set(await node.claims()) == {"10.6.0.10"}
        assert node.process.parts.view.current.quarantine == {}

        ip("-n", Path(conflicting_host.netns).name, "address", "flush", "dev", "eth0")
        assert await node.add("db-0", CNI_NETNS=pod.netns) == ["10.6.0.10/24"]


async def test_a_pod_keeps_a_conflicting_address_if_release_conflicts_is_disabled(
    link: Link, run_agent: AgentRunner
) -> None:
    link.station("10.6.0.10/24")
    pod = link.station(up=False)
    async with run_agent(release_conflicts=False) as node:
        await create_lan_pool(node)

        reply = await node.call("ADD", CNI_NETNS=pod.netns)

        assert "forbid releasing IPs for stateless workload" in reply.error["msg"]
        assert set(await node.claims()) == {"10.6.0.10"}
        assert node.process.parts.view.current.quarantine == {}


async def test_an_add_fails_and_releases_its_address_if_the_gateway_is_silent(
    link: Link, run_agent: AgentRunner
) -> None:
    pod = link.station(up=False)
    async with run_agent(detect_gateway=True) as node:
        await create_lan_pool(node, gateway=GATEWAY)

        reply = await node.call("ADD", CNI_NETNS=pod.netns)

        assert reply.error["code"] == GATEWAY_UNREACHABLE
        assert "gateway 10.6.0.1 is unreachable" in reply.error["msg"]
        assert await node.claims() == {}
        assert node.process.parts.view.current.quarantine == {}

        link.station("10.6.0.1/24")
        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.10/24"]


async def test_no_gateway_is_probed_if_the_pool_has_no_gateway(
    link: Link, run_agent: AgentRunner
) -> None:
    pod = link.station(up=False)
    async with run_agent(detect_gateway=True) as node:
        await create_lan_pool(node)

        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.10/24"]


async def test_addresses_are_not_probed_if_detection_is_disabled(
    link: Link, run_agent: AgentRunner
) -> None:
    link.station("10.6.0.10/24")
    pod = link.station(up=False)
    async with run_agent(detect_conflicts=False) as node:
        await create_lan_pool(node)

        assert await node.add(CNI_NETNS=pod.netns) == ["10.6.0.10/24"]
        assert node.process.parts.detector.counts.probes == 0


async def test_a_conflict_on_one_interface_changes_only_the_address_of_that_interface(
    link: Link, run_agent: AgentRunner
) -> None:
    link.station("10.7.0.10/24")
    first, second = link.station(up=False), net1_of(link)
    async with run_agent() as node:
        await create_lan_pool(node)
        await node.pool("san", "10.7.0.0/24", "10.7.0.10-10.7.0.20", default=False)
        pools = [{"interface": "eth0", "ipv4": ["lan"]}, {"interface": "net1", "ipv4": ["san"]}]
        await node.pod("web-0", {"ippools": pools})

        assert await node.add(CNI_NETNS=first.netns) == ["10.6.0.10/24"]
        assert await node.add(CNI_NETNS=second.netns, CNI_IFNAME="net1") == ["10.7.0.11/24"]
        assert set(await node.claims()) == {"10.6.0.10", "10.7.0.11"}


async def test_later_nics_keep_their_pools_after_a_conflict_if_no_entry_names_an_interface(
    link: Link, run_agent: AgentRunner
) -> None:
    """Without interface names, entry n of the annotation is for the nth NIC that gets an ADD."""
    link.station("10.6.0.10/24")
    first, second = link.station(up=False), net1_of(link)
    async with run_agent() as node:
        await create_lan_pool(node)
        await node.pool("san", "10.7.0.0/24", "10.7.0.10-10.7.0.20", default=False)
        await node.pod("web-0", {"ippools": [{"ipv4": ["lan"]}, {"ipv4": ["san"]}]})

        assert await node.add(CNI_NETNS=first.netns) == ["10.6.0.11/24"]
        (other,) = await node.add(CNI_NETNS=second.netns, CNI_IFNAME="net1")
        assert other.startswith("10.7.0.")
        assert set(await node.claims()) == {"10.6.0.11", other.removesuffix("/24")}


async def test_an_add_for_a_missing_interface_fails_and_claims_nothing(
    link: Link, run_agent: AgentRunner
) -> None:
    pod = link.station(up=False)
    async with run_agent() as node:
        await create_lan_pool(node)

        reply = await node.call("ADD", CNI_NETNS=pod.netns, CNI_IFNAME="net9")

        assert reply.error["code"] == DETECTION_FAILED
        assert "No such device" in reply.error["msg"]
        assert (
            reply.error["details"]
            == "make sure that a plugin earlier in the CNI chain creates net9"
        )
        assert await node.claims() == {}


async def test_probes_are_spans_of_the_add(link: Link, run_agent: AgentRunner) -> None:
    link.station("10.6.0.10/24")
    pod = link.station(up=False)
    with recorded_spans() as exporter:
        async with run_agent() as node:
            await create_lan_pool(node)
            await node.add(CNI_NETNS=pod.netns)

    spans = exporter.get_finished_spans()
    steps = [span for span in spans if span.name in ("ipam.allocate", "ipam.probe")]
    assert [span.name for span in steps] == ["ipam.allocate", "ipam.probe"] * 2
    assert {parent_of(span, spans) for span in steps} == {"CNI ADD"}
    probes = [span for span in steps if span.name == "ipam.probe"]
    hosts_of_probes = [attributes_of(span).get("detection.conflicting_hosts") for span in probes]
    assert [len(hosts) for hosts in hosts_of_probes if isinstance(hosts, tuple)] == [1, 0]


async def test_a_del_waits_until_the_probe_has_ended(link: Link, run_agent: AgentRunner) -> None:
    """Without the wait, the DEL would release an address that the ADD then returns."""
    pod = link.station(up=False)
    async with run_agent(detect_gateway=True) as node:
        await create_lan_pool(node, gateway=GATEWAY)
        adding = asyncio.ensure_future(node.call("ADD", CNI_NETNS=pod.netns))
        while not await node.claims():
            await asyncio.sleep(0)

        await node.delete(CNI_NETNS=pod.netns)

        assert adding.done()
        assert (await adding).error["code"] == GATEWAY_UNREACHABLE
        assert await node.claims() == {}


def net1_of(link: Link) -> Station:
    station = link.station(up=False)
    ip("-n", Path(station.netns).name, "link", "set", "eth0", "name", "net1")
    return station


@pytest.mark.parametrize("ended_by", ["its deadline", "the end of the agent"])
async def test_an_add_that_ends_during_its_probe_leaves_no_claim(
    link: Link, run_agent: AgentRunner, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    probing = asyncio.Event()

    async def probe_forever(*_: object) -> DetectionResult:
        probing.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with run_agent() as node:
        await create_lan_pool(node)
        parts = node.process.parts
        monkeypatch.setattr(parts.detector, "probe", probe_forever)
        if ended_by == "its deadline":
            monkeypatch.setattr(parts.handlers.add, "deadline_s", 1.0)
            reply = await node.call("ADD", CNI_NETNS=link.station(up=False).netns)
            assert "not done within 1 s" in reply.error["msg"]
        else:
            call = asyncio.create_task(node.call("ADD", CNI_NETNS=link.station(up=False).netns))
            await probing.wait()
            assert await node.claims()
            await parts.framed.end()
            with pytest.raises(asyncio.IncompleteReadError):
                await call
        assert await node.claims() == {}
