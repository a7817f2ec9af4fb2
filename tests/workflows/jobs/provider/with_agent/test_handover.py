"""Release of bound addresses: the provider unbinds first, for every kind of release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.allocation.cooldown import CoolDown
from core.allocation.handover import HANDED_OVER, Handover
from core.allocation.releaser import Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.configuration.commands import ApplyRecord
from core.domain.events import Cause, RecordDefined
from core.domain.reclaim.evidence import Evidence, ObservationSubject, ReclaimFence, containers_of
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.eventstore.writer import Writer
from tests.support.agent_harness import running
from tests.workflows.jobs.provider.fake_provider import Fault
from tests.workflows.jobs.provider.with_agent.provider_harness import ProviderHarness, eventually
from workflows.engine.client.client import Client
from workflows.jobs.provider.client import ALLOCATE, RELEASE
from workflows.jobs.reclaim.context import Releases
from workflows.jobs.writers import ShardWriters

pytestmark = pytest.mark.etcd
NEXT = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=uid-next"


class _OperatorWriters(ShardWriters):
    """Writers of a caller that is not an activity."""

    @asynccontextmanager
    async def current_writer(self) -> AsyncIterator[tuple[Writer, Cause]]:
        writer = Writer(self._store, self._keys, "operator")
        await writer.open()
        yield writer, Cause("test")
        await writer.close()


def paths(harness: ProviderHarness) -> list[str]:
    return [path for path, _, _ in harness.provider.calls]


async def test_a_del_gives_back_after_the_provider_has_let_go(harness: ProviderHarness) -> None:
    await harness.controller()
    (address,) = await harness.node.add()
    await harness.node.delete()
    await eventually(harness.nothing_left)
    await harness.node.delete()

    assert paths(harness) == [ALLOCATE, RELEASE]
    assert harness.provider.calls[1][1]["ipAddress"] == address.partition("/")[0]


async def test_a_del_needs_no_controller_and_the_next_one_carries_it_out(
    harness: ProviderHarness,
) -> None:
    end = await harness.controller()
    await harness.node.add()
    await end()
    for _ in range(2):
        await harness.node.delete()

    assert await harness.node.claims()
    assert paths(harness) == [ALLOCATE]
    await harness.controller("controller-1")
    await eventually(harness.nothing_left)


async def test_the_next_pod_of_the_name_waits_until_the_provider_has_let_go(
    harness: ProviderHarness,
) -> None:
    await harness.controller()
    await harness.node.add()
    harness.provider.away = Fault.BROKEN
    error = (await harness.node.call("ADD", CNI_ARGS=NEXT)).error  # its predecessor had no DEL

    assert error["code"] == 11
    assert "are still being released by the network provider" in error["msg"]
    assert set(await harness.node.claims()) == set(harness.provider.bound)
    harness.provider.away = None
    await eventually(harness.nothing_left)
    assert await harness.node.add(CNI_ARGS=NEXT)
    assert set(harness.provider.bound.values()) == {"uid-next"}


async def test_nics_of_another_sandbox_are_given_back_with_the_last_one(
    harness: ProviderHarness,
) -> None:
    harness.networks.modes["net1"] = "auto"
    await harness.controller()
    await harness.node.add()
    await harness.node.add(CNI_IFNAME="net1", CNI_CONTAINERID="second")
    await harness.node.delete()
    assert len(await harness.node.claims()) == len(harness.provider.bound) == 2

    await harness.node.delete(CNI_IFNAME="net1", CNI_CONTAINERID="second")
    await eventually(harness.nothing_left)


async def test_the_next_replica_on_the_same_nic_needs_no_other_bind(
    harness: ProviderHarness,
) -> None:
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await harness.node.pod("web-0", {}, **owner)
    await harness.node.apply(
        ApplyRecord(RecordDefined("StatefulSet", "shop", "web", {}, {}, replicas=1))
    )
    await harness.controller()
    first = await harness.node.add()
    await harness.node.delete()

    assert await harness.node.add(CNI_ARGS=NEXT) == first
    assert paths(harness) == [ALLOCATE]


async def test_a_replica_that_moves_takes_its_bind_along(harness: ProviderHarness) -> None:
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await harness.node.pod("web-0", {}, **owner)
    await harness.node.apply(
        ApplyRecord(RecordDefined("StatefulSet", "shop", "web", {}, {}, replicas=1))
    )
    await harness.controller()
    await harness.node.add()
    await harness.node.delete()
    mine = harness.node.process.settings
    other = mine._replace(node_name="node-2", socket_path=f"{mine.socket_path}-2")
    async with running(other, harness.node.store, networks=harness.networks) as second:
        error = (await second.call("ADD", CNI_ARGS=NEXT)).error
        assert "still being released by the network provider" in error["msg"]
        await eventually(harness.nothing_left)
        assert await second.add(CNI_ARGS=NEXT)

    assert [body["nodeName"] for _, body, _ in harness.provider.calls] == ["node-1"] * 2 + [
        "node-2"
    ]
    assert paths(harness) == [ALLOCATE, RELEASE, ALLOCATE]


async def test_a_live_migration_leaves_its_source_the_bind(harness: ProviderHarness) -> None:
    owner = {"owner_kind": "VirtualMachineInstance", "owner_name": "vm"}
    owner["owner_api_version"] = "kubevirt.io/v1"
    await harness.node.pod("source", {}, **owner)
    await harness.node.pod("target", {"kubevirt.io/migrationJobName": "job"}, **owner)
    await harness.controller()
    first = await harness.node.add("source")
    mine = harness.node.process.settings
    other = mine._replace(node_name="node-2", socket_path=f"{mine.socket_path}-2")
    async with running(other, harness.node.store, networks=harness.networks) as second:
        assert await second.add("target") == first

    assert paths(harness) == [ALLOCATE]
    binding = (await harness.binding("vm")).binding
    assert binding is not None
    assert (binding.state, binding.request.node) == ("bound", "node-1")


async def test_what_is_reclaimed_is_handed_over_too(harness: ProviderHarness) -> None:
    await harness.controller()
    await harness.node.add()
    endpoint = await harness.node.endpoint()
    assert endpoint is not None
    store, keys = harness.node.store, harness.node.keys
    releases = Releases(store, keys, _OperatorWriters(store, keys), Handover(store, keys))
    fence = ReclaimFence(endpoint.uid, endpoint.holder, containers_of(endpoint), ())
    evidence = Evidence("pod-gone", "there is no such Pod", "listing", 0, 0, 2)
    done = await releases.make(ReclaimStep(ObservationSubject(endpoint.key), (), evidence, fence))

    assert (done.addresses, done.why) == ((), HANDED_OVER)
    await eventually(harness.nothing_left)
    assert paths(harness) == [ALLOCATE, RELEASE]


async def test_claims_that_a_person_has_ended_are_taken_from_the_provider_too(
    harness: ProviderHarness,
) -> None:
    end = await harness.controller()
    await harness.node.add()
    await end()
    store, keys = harness.node.store, harness.node.keys
    writer = Writer(store, keys, "operator")
    await writer.open()
    releaser = Releaser(store, keys, writer, CoolDown(store, 0))
    request = ReleaseRequest("operator", "a person", Cause("test"))
    await releaser.release(("shop", "web-0"), lambda _: ReleaseDecision(True, ""), request)
    await writer.close()

    assert harness.provider.bound
    await harness.controller("controller-1")
    await eventually(harness.nothing_left)


async def test_who_terminates_a_release_leaves_the_claims_to_a_person(
    harness: ProviderHarness,
) -> None:
    await harness.controller()
    await harness.node.add()
    harness.provider.away = Fault.SILENT
    await harness.node.delete()

    async def asked() -> bool:
        return RELEASE in paths(harness)

    await eventually(asked)
    async with Client(harness.node.store, harness.node.keys) as client:
        await client.terminate("external/shop/web-0/uid-web-0", "the provider is sold")

    async def is_forgotten() -> bool:
        return (await harness.binding()).binding is None

    await eventually(is_forgotten)
    assert await harness.node.claims()
