"""The agent keeps or releases fixed addresses when Pods and StatefulSets change.

A fixed address belongs to a StatefulSet replica or a VM, and outlives the Pod. The default call
for Pod NAME has container c-NAME and UID uid-NAME.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.allocation.add_request import AddRequest
from core.allocation.cooldown import CoolDown
from core.allocation.releaser import Releaser
from core.configuration.configurator import Configurator
from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import AddressesReleased, Cause, RecordDefined
from core.domain.fixed.fixed_address_owners import FixedSettings
from core.domain.fixed.owner_validity import Validity
from core.domain.model import Attachment, Endpoint
from core.domain.request_facts import PodReference, RequestFacts
from core.domain.selection.selection_request import SelectionRequest
from core.eventstore.kv import IsWhole, WatchBatch
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.pod_facts import Liveness, StandaloneFactsSource
from nodeagent.servers.http_api import STATEFUL_STATUS
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.faulty_store import FaultyStore
from tests.support.http_caller import over_socket

OWNED_BY_VM = {"owner_kind": "VirtualMachineInstance", "owner_name": "vm-a"}
OWNED_BY_STATEFUL_SET = {"owner_kind": "StatefulSet", "owner_name": "db"}
MIGRATION_ANNOTATIONS: dict[str, Any] = {"kubevirt.io/migrationJobName": "job-1"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings._replace(address_order="sequential", cool_down_s=0)


@pytest.fixture
async def agent(settings: Settings) -> AsyncIterator[AgentHarness]:
    async with running(settings, MemoryStore()) as agent:
        await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        yield agent


async def apply_replicas(agent: AgentHarness, replicas: int, first_ordinal: int = 0) -> None:
    record = RecordDefined(
        "StatefulSet", "shop", "db", replicas=replicas, ordinals_start=first_ordinal
    )
    await agent.apply(ApplyRecord(record))


async def last_release(agent: AgentHarness) -> AddressesReleased:
    segments, _ = await LogReader(agent.store, agent.keys).catch_up(LOG_START)
    events = [recorded.event for segment in segments for recorded in segment.events()]
    return next(event for event in reversed(events) if isinstance(event, AddressesReleased))


def cni_variables(uid: str, container: str, pod: str = "db-0") -> dict[str, Any]:
    return {
        "CNI_CONTAINERID": container,
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID={uid}",
    }


async def test_a_del_releases_the_address_of_a_replica_only_after_scale_down(
    agent: AgentHarness,
) -> None:
    await apply_replicas(agent, 2)
    for name in ("db-0", "db-1"):
        await agent.pod(name, {}, **OWNED_BY_STATEFUL_SET)
        await agent.add(name)
    await agent.delete("db-1")
    assert len(await agent.claims()) == 2

    await apply_replicas(agent, 1)
    await agent.delete("db-1")
    await agent.delete("db-0")

    assert set(await agent.claims()) == {"10.6.0.10"}
    evidence = (await last_release(agent)).evidence
    assert evidence == "CNI DEL of container c-db-1; StatefulSet shop/db has replica 0"


async def test_a_replica_below_the_first_ordinal_loses_its_address(agent: AgentHarness) -> None:
    await apply_replicas(agent, 1, first_ordinal=1)
    for name in ("db-0", "db-1"):
        await agent.pod(name, {}, **OWNED_BY_STATEFUL_SET)
        await agent.add(name)
        await agent.delete(name)

    assert {claim.pod for claim in (await agent.claims()).values()} == {"db-1"}


async def test_a_replica_keeps_its_address_if_its_pod_record_is_deleted_before_del(
    agent: AgentHarness,
) -> None:
    """After a force delete, only the claim still names the owner of the Pod."""
    await apply_replicas(agent, 1)
    await agent.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
    await agent.add("db-0")

    await agent.apply(DeleteRecord("Pod", "shop", "db-0"))
    await agent.delete("db-0")

    assert set(await agent.claims()) == {"10.6.0.10"}


async def test_a_late_del_of_the_previous_pod_keeps_the_endpoint(
    agent: AgentHarness,
) -> None:
    await apply_replicas(agent, 1)
    await agent.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
    first = await agent.add("db-0", **cni_variables("one", "box-1"))
    second = await agent.add("db-0", **cni_variables("two", "box-2"))
    await apply_replicas(agent, 0)

    await agent.delete("db-0", **cni_variables("one", "box-1"))

    assert first == second == ["10.6.0.10/24"]
    endpoint = await agent.endpoint("db-0")
    assert endpoint is not None
    assert endpoint.uid == "two"


async def test_a_replica_gets_its_address_again_from_a_full_pool(agent: AgentHarness) -> None:
    await agent.pool("one", "10.7.0.0/24", "10.7.0.10", default=False)
    await agent.pod("db-0", {"ippool": {"ipv4": ["one"]}}, **OWNED_BY_STATEFUL_SET)
    await agent.add("db-0", **cni_variables("one", "box-1"))

    assert await agent.add("db-0", **cni_variables("two", "box-2")) == ["10.7.0.10/24"]


async def test_a_changed_pool_in_the_pods_record_applies_only_to_a_new_sandbox(
    agent: AgentHarness,
) -> None:
    await agent.pool("other", "10.7.0.0/24", "10.7.0.10", default=False)
    await agent.pod("db-0", {"ippool": {"ipv4": ["lan"]}}, **OWNED_BY_STATEFUL_SET)
    old_addresses = await agent.add("db-0")
    await agent.pod("db-0", {"ippool": {"ipv4": ["other"]}}, **OWNED_BY_STATEFUL_SET)

    assert await agent.add("db-0") == old_addresses
    assert await agent.add("db-0", **cni_variables("two", "box-2")) == ["10.7.0.10/24"]
    assert set(await agent.claims()) == {"10.7.0.10"}


async def test_both_launchers_of_a_migrating_vm_have_its_address(agent: AgentHarness) -> None:
    source = cni_variables("one", "box-1", "launcher-1")
    target = cni_variables("two", "box-2", "launcher-2")
    await agent.pod("launcher-1", {}, **OWNED_BY_VM)
    result = (await agent.call("ADD", "launcher-1", **source)).result
    await agent.pod("launcher-2", MIGRATION_ANNOTATIONS, **OWNED_BY_VM)

    target_result = (await agent.call("ADD", "launcher-2", **target)).result
    conf = agent.netconf(prevResult=result)
    check_reply = await agent.call("CHECK", "launcher-1", conf=conf, **source)
    await agent.delete("launcher-1", **source)

    assert target_result["ips"] == result["ips"]
    assert check_reply.status == 0, check_reply.body
    endpoint = await agent.endpoint("vm-a")
    assert endpoint is not None
    assert (endpoint.holder, endpoint.uid) == ("vm/shop/vm-a", "two")


async def test_the_target_of_a_migration_probes_no_conflicts(
    settings: Settings,
) -> None:
    async with running(settings._replace(detect_conflicts=True), MemoryStore()) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await node.pod("launcher-1", {}, **OWNED_BY_VM)
        await node.pod("launcher-2", MIGRATION_ANNOTATIONS, **OWNED_BY_VM)

        addresses = [
            await allocate_over_http(node, name)
            for name in ("launcher-1", "launcher-2", "launcher-1")
        ]

    assert [entry.get("enableIPConflictDetection", False) for entry in addresses] == [
        True,
        False,
        True,
    ]
    assert len({entry["address"] for entry in addresses}) == 1


async def allocate_over_http(agent: AgentHarness, pod: str) -> Any:
    body = {
        "containerID": f"box-{pod}",
        "ifName": "eth0",
        "netNamespace": "/run/netns/x",
        "podNamespace": "shop",
        "podName": pod,
        "podUID": f"uid-{pod}",
    }
    reply = await over_socket(agent.process.settings.socket_path, "POST", "/v1/ipam/ip", body)
    return reply.json["ips"][0]


async def test_a_vm_keeps_its_address_after_a_del_without_a_launcher_record(
    agent: AgentHarness,
) -> None:
    """Without the record of the launcher Pod, the second DEL does not find the VM's claim."""
    await agent.pod("launcher-1", {}, **OWNED_BY_VM)
    await agent.add("launcher-1")
    await agent.delete("launcher-1")
    assert set(await agent.claims()) == {"10.6.0.10"}

    await agent.apply(DeleteRecord("Pod", "shop", "launcher-1"))
    await agent.delete("launcher-1")

    assert set(await agent.claims()) == {"10.6.0.10"}


async def test_dels_release_all_addresses_if_fixed_addresses_are_disabled(
    settings: Settings,
) -> None:
    settings_without_fixed_addresses = settings._replace(
        fixed_addresses=FixedSettings(stateful_sets=False, vms=False)
    )
    async with running(settings_without_fixed_addresses, MemoryStore()) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await node.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
        await node.pod("launcher-1", {}, **OWNED_BY_VM)
        await node.add("db-0")
        await node.add("launcher-1")
        holders = {claim.holder for claim in (await node.claims()).values()}

        await node.delete("db-0")
        await node.delete("launcher-1")

        assert holders == {"pod/uid-db-0", "pod/uid-launcher-1"}
        assert await node.claims() == {}


async def test_a_conflict_release_keeps_a_replicas_address_after_its_pod_record_is_deleted(
    agent: AgentHarness,
) -> None:
    """The coordinator requests this release if another host uses the Pod's address."""
    await agent.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
    await agent.add("db-0")
    await agent.apply(DeleteRecord("Pod", "shop", "db-0"))
    body = {
        "containerID": "c-db-0",
        "podNamespace": "shop",
        "podName": "db-0",
        "podUID": "uid-db-0",
        "isReleaseConflictIPs": True,
    }

    reply = await over_socket(agent.process.settings.socket_path, "DELETE", "/v1/ipam/ips", body)

    assert reply.status == STATEFUL_STATUS
    assert set(await agent.claims()) == {"10.6.0.10"}


class ScriptedFacts(StandaloneFactsSource):
    """Facts from records; tests set the liveness of Pods and the validity of endpoints."""

    alive: bool | None = None
    validity: Validity | None = None

    def facts(self, reference: PodReference) -> RequestFacts:
        facts = super().facts(reference)
        return facts._replace(pod=facts.pod._replace(alive=self.alive))

    def liveness(self, reference: PodReference) -> Liveness:
        return Liveness(self.alive)

    def endpoint_validity(self, endpoint: Endpoint) -> Validity | None:
        return self.validity


@pytest.fixture
async def scripted_agent(settings: Settings) -> AsyncIterator[tuple[AgentHarness, ScriptedFacts]]:
    """An agent with ``ScriptedFacts``; these read the records in the view of a second agent."""
    store = MemoryStore()
    async with running(settings, store) as second_agent:
        await second_agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await second_agent.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
        view = second_agent.process.parts.view
        source = ScriptedFacts(view, "node-2", FixedSettings())
        node_2_settings = settings._replace(
            node_name="node-2", socket_path=settings.socket_path.replace("a.sock", "b.sock")
        )
        async with running(node_2_settings, store, facts=source) as node:
            yield node, source


async def test_a_dead_pod_gets_no_address(
    scripted_agent: tuple[AgentHarness, ScriptedFacts],
) -> None:
    node, source = scripted_agent
    source.alive = False

    error = (await node.call("ADD", "db-0")).error

    assert "dead Pod shop/db-0" in error["msg"]
    assert await node.claims() == {}


async def test_a_living_pod_keeps_its_address_if_its_replica_is_not_desired(
    scripted_agent: tuple[AgentHarness, ScriptedFacts],
) -> None:
    node, source = scripted_agent
    await node.add("db-0")
    source.alive, source.validity = True, Validity("invalid", "scaled away")
    await node.delete("db-0")
    assert len(await node.claims()) == 1

    source.alive = False
    await node.delete("db-0")

    assert await node.claims() == {}


async def test_a_del_keeps_the_address_if_the_validity_of_the_endpoint_is_unknown(
    scripted_agent: tuple[AgentHarness, ScriptedFacts],
) -> None:
    node, source = scripted_agent
    await node.add("db-0")
    source.alive, source.validity = False, Validity("unknown", "StatefulSets were not listed")

    await node.delete("db-0")

    assert len(await node.claims()) == 1


async def test_gc_releases_an_address_only_if_its_replica_is_not_desired(
    scripted_agent: tuple[AgentHarness, ScriptedFacts], tmp_path: Path
) -> None:
    node, source = scripted_agent
    await node.add("db-0", CNI_NETNS=str(tmp_path / "gone"))
    conf = node.netconf(**{"cni.dev/valid-attachments": []})
    source.validity = Validity("valid", "StatefulSet shop/db has replica 0")
    await node.call("GC", conf=conf)
    assert len(await node.claims()) == 1

    source.validity = Validity("invalid", "StatefulSet shop/db has no replicas")
    await node.call("GC", conf=conf)

    assert await node.claims() == {}
    assert (await last_release(node)).evidence.endswith("; StatefulSet shop/db has no replicas")


class LaggingStore(FaultyStore):
    """A store whose watches deliver events only while ``may_deliver`` is set."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.may_deliver = asyncio.Event()
        self.may_deliver.set()

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncGenerator[WatchBatch, None]:
        async for batch in super().watch(ranges, after=after, is_whole=is_whole):
            await self.may_deliver.wait()
            yield batch


async def test_a_del_reads_the_records_again_before_it_releases_a_fixed_address(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.pod_facts.CONFIRM_S_MAX", 0.2)
    store = LaggingStore()
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await apply_replicas(node, 1)
        await node.pod("db-1", {}, **OWNED_BY_STATEFUL_SET)
        await node.add("db-1")
        store.may_deliver.clear()
        writer = Writer(store, node.keys, "operator")
        await writer.open()
        two_replicas = ApplyRecord(RecordDefined("StatefulSet", "shop", "db", replicas=2))
        await Configurator(store, node.keys, writer).apply(two_replicas, Cause("test"))
        await writer.close()

        await node.delete("db-1")  # the agent's view still has one replica
        claims_with_stale_view = await node.claims()
        store.may_deliver.set()
        await node.delete("db-1")

        assert set(claims_with_stale_view) == set(await node.claims()) == {"10.6.0.10"}


async def test_a_cancelled_add_releases_no_fixed_address_of_a_deleted_pod(
    agent: AgentHarness,
) -> None:
    await apply_replicas(agent, 1)
    await agent.pod("db-0", {}, **OWNED_BY_STATEFUL_SET)
    await agent.add("db-0")
    await agent.apply(DeleteRecord("Pod", "shop", "db-0"))
    parts = agent.process.parts
    releaser = Releaser(agent.store, agent.keys, parts.writer, CoolDown(agent.store, 0))
    configurator = Configurator(agent.store, agent.keys, parts.writer)
    withdrawal_handler = WithdrawalHandler(
        agent.store,
        agent.keys,
        releaser,
        configurator,
        parts.view,
        parts.facts,
        "test",
        allowed=True,
    )
    reference = PodReference("shop", "db-0", "uid-db-0", "c-db-0")
    attachment, cause = Attachment("c-db-0", "eth0"), Cause("test")
    request = AddRequest(reference, attachment, SelectionRequest("eth0"), cause)

    outcome = await withdrawal_handler.withdraw_nic(request, (), "the ADD was cancelled")

    assert outcome is Withdrawal.STATEFUL
    assert set(await agent.claims()) == {"10.6.0.10"}
