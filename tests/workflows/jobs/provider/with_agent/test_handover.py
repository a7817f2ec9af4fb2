"""Releases of bound addresses, with an agent and controllers.

By default, ``add()`` and ``delete()`` use the interface eth0 of the Pod web-0.
"""

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
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH
from workflows.jobs.shard_writers import Releases, ShardWriters

pytestmark = pytest.mark.etcd
NEXT_POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=uid-next"


class _OperatorWriters(ShardWriters):
    """Makes a writer for ``Releases`` outside an activity."""

    @asynccontextmanager
    async def current_writer(self) -> AsyncIterator[tuple[Writer, Cause]]:
        writer = Writer(self._store, self._keys, "operator")
        await writer.open()
        yield writer, Cause("test")
        await writer.close()


def called_paths(harness: ProviderHarness) -> list[str]:
    return [path for path, _, _ in harness.provider.calls]


async def test_a_del_ends_the_claim_after_the_provider_has_released_the_address(
    harness: ProviderHarness,
) -> None:
    await harness.start_controller()
    (address,) = await harness.node.add()
    await harness.node.delete()
    await eventually(harness.everything_is_released)
    await harness.node.delete()

    assert called_paths(harness) == [ALLOCATE_PATH, RELEASE_PATH]
    assert harness.provider.calls[1][1]["ipAddress"] == address.partition("/")[0]


async def test_the_next_controller_releases_the_address_of_an_earlier_del(
    harness: ProviderHarness,
) -> None:
    stop_controller = await harness.start_controller()
    await harness.node.add()
    await stop_controller()
    for _ in range(2):
        await harness.node.delete()

    assert await harness.node.claims()
    assert called_paths(harness) == [ALLOCATE_PATH]
    await harness.start_controller("controller-1")
    await eventually(harness.everything_is_released)


async def test_an_add_of_a_new_pod_fails_while_the_provider_releases_the_old_binding(
    harness: ProviderHarness,
) -> None:
    await harness.start_controller()
    await harness.node.add()
    harness.provider.lasting_fault = Fault.BROKEN
    # There was no DEL for the old Pod.
    error = (await harness.node.call("ADD", CNI_ARGS=NEXT_POD_ARGS)).error

    assert error["code"] == 11
    assert "are still being released by the network provider" in error["msg"]
    assert set(await harness.node.claims()) == set(harness.provider.bound)
    harness.provider.lasting_fault = None
    await eventually(harness.everything_is_released)
    assert await harness.node.add(CNI_ARGS=NEXT_POD_ARGS)
    assert set(harness.provider.bound.values()) == {"uid-next"}


async def test_the_addresses_of_two_sandboxes_are_released_after_both_dels(
    harness: ProviderHarness,
) -> None:
    harness.networks.modes["net1"] = "auto"  # the provider binds the addresses of net1 too
    await harness.start_controller()
    await harness.node.add()
    await harness.node.add(CNI_IFNAME="net1", CNI_CONTAINERID="second")
    await harness.node.delete()
    assert len(await harness.node.claims()) == len(harness.provider.bound) == 2

    await harness.node.delete(CNI_IFNAME="net1", CNI_CONTAINERID="second")
    await eventually(harness.everything_is_released)


async def test_a_new_stateful_set_pod_on_the_same_node_keeps_the_binding(
    harness: ProviderHarness,
) -> None:
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await harness.node.pod("web-0", {}, **owner)
    await harness.node.apply(
        ApplyRecord(RecordDefined("StatefulSet", "shop", "web", {}, {}, replicas=1))
    )
    await harness.start_controller()
    first = await harness.node.add()
    await harness.node.delete()

    assert await harness.node.add(CNI_ARGS=NEXT_POD_ARGS) == first
    assert called_paths(harness) == [ALLOCATE_PATH]


async def test_a_new_stateful_set_pod_on_another_node_gets_a_new_binding(
    harness: ProviderHarness,
) -> None:
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await harness.node.pod("web-0", {}, **owner)
    await harness.node.apply(
        ApplyRecord(RecordDefined("StatefulSet", "shop", "web", {}, {}, replicas=1))
    )
    await harness.start_controller()
    await harness.node.add()
    await harness.node.delete()
    settings = harness.node.process.settings
    other_settings = settings._replace(node_name="node-2", socket_path=f"{settings.socket_path}-2")
    async with running(
        other_settings, harness.node.store, networks=harness.networks
    ) as second_agent:
        error = (await second_agent.call("ADD", CNI_ARGS=NEXT_POD_ARGS)).error
        assert "still being released by the network provider" in error["msg"]
        await eventually(harness.everything_is_released)
        assert await second_agent.add(CNI_ARGS=NEXT_POD_ARGS)

    assert [body["nodeName"] for _, body, _ in harness.provider.calls] == ["node-1"] * 2 + [
        "node-2"
    ]
    assert called_paths(harness) == [ALLOCATE_PATH, RELEASE_PATH, ALLOCATE_PATH]


async def test_a_live_migration_keeps_the_binding_of_the_source_pod(
    harness: ProviderHarness,
) -> None:
    owner = {"owner_kind": "VirtualMachineInstance", "owner_name": "vm"}
    owner["owner_api_version"] = "kubevirt.io/v1"
    await harness.node.pod("source", {}, **owner)
    await harness.node.pod("target", {"kubevirt.io/migrationJobName": "job"}, **owner)
    await harness.start_controller()
    first = await harness.node.add("source")
    settings = harness.node.process.settings
    other_settings = settings._replace(node_name="node-2", socket_path=f"{settings.socket_path}-2")
    async with running(
        other_settings, harness.node.store, networks=harness.networks
    ) as second_agent:
        assert await second_agent.add("target") == first

    assert called_paths(harness) == [ALLOCATE_PATH]
    binding = (await harness.stored_binding("vm")).binding
    assert binding is not None
    assert (binding.state, binding.request.node) == ("bound", "node-1")


async def test_a_reclaim_releases_bound_addresses_at_the_provider(harness: ProviderHarness) -> None:
    await harness.start_controller()
    await harness.node.add()
    endpoint = await harness.node.endpoint()
    assert endpoint is not None
    store, keys = harness.node.store, harness.node.keys
    releases = Releases(store, keys, _OperatorWriters(store, keys), Handover(store, keys))
    fence = ReclaimFence(endpoint.uid, endpoint.holder, containers_of(endpoint), claims=())
    evidence = Evidence(
        "pod-gone", "there is no such Pod", source="listing", first_s=0, last_s=0, times=2
    )
    subject = ObservationSubject(endpoint.key)
    release = await releases.make(
        ReclaimStep(subject, addresses=(), evidence=evidence, fence=fence)
    )

    assert (release.addresses, release.why) == ((), HANDED_OVER)
    await eventually(harness.everything_is_released)
    assert called_paths(harness) == [ALLOCATE_PATH, RELEASE_PATH]


async def test_the_provider_releases_an_address_after_an_operator_ends_its_claim(
    harness: ProviderHarness,
) -> None:
    stop_controller = await harness.start_controller()
    await harness.node.add()
    await stop_controller()
    store, keys = harness.node.store, harness.node.keys
    writer = Writer(store, keys, "operator")
    await writer.open()
    releaser = Releaser(store, keys, writer, CoolDown(store, 0))
    request = ReleaseRequest(reason="operator", evidence="a person", cause=Cause("test"))
    decision = ReleaseDecision(ends=True, why="")
    await releaser.release(("shop", "web-0"), lambda _: decision, request)
    await writer.close()

    assert harness.provider.bound
    await harness.start_controller("controller-1")
    await eventually(harness.everything_is_released)


async def test_terminating_a_release_removes_the_binding_and_keeps_the_claims(
    harness: ProviderHarness,
) -> None:
    await harness.start_controller()
    await harness.node.add()
    harness.provider.lasting_fault = Fault.SILENT
    await harness.node.delete()

    async def release_is_requested() -> bool:
        return RELEASE_PATH in called_paths(harness)

    await eventually(release_is_requested)
    async with Client(harness.node.store, harness.node.keys) as client:
        await client.terminate("external/shop/web-0/uid-web-0", "the provider was replaced")

    async def binding_is_removed() -> bool:
        return (await harness.stored_binding()).binding is None

    await eventually(binding_is_removed)
    assert await harness.node.claims()
