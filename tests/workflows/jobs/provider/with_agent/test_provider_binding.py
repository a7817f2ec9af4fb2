"""An ADD on a network of the provider returns a bound address, or fails and leaves no claim.

By default, an ADD is for the interface eth0 of the Pod web-0. The provider binds addresses only on
networks with the VLAN mode ``auto``.
"""

from __future__ import annotations

import asyncio

import pytest

from core.domain.request_facts import PodReference
from core.errors import WrongInput
from tests.workflows.jobs.provider.fake_provider import Fault, mac_of
from tests.workflows.jobs.provider.with_agent.provider_harness import (
    PARENT_MAC,
    ProviderHarness,
    eventually,
)
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH

pytestmark = pytest.mark.etcd


def requested_paths(harness: ProviderHarness) -> list[str]:
    return [path for path, _, _ in harness.provider.calls]


async def test_an_add_returns_a_bound_address_and_the_endpoint_has_the_mac_and_vlan(
    harness: ProviderHarness,
) -> None:
    await harness.start_controller()
    (address,) = [cidr.partition("/")[0] for cidr in await harness.node.add()]
    endpoint = await harness.workload_endpoint()

    assert harness.provider.bound == {address: "uid-web-0"}
    assert harness.provider.calls[0][1]["iaasIPsAllocationRequest"] == [
        {"ipAddress": address, "subnet": "10.6.0.0/16", "parentNicMac": PARENT_MAC}
    ]
    (nic,) = endpoint["interfaces"]
    assert (nic["mac"], nic["vlan"]) == (mac_of(address), 100)


async def test_repeated_adds_claim_and_bind_once(harness: ProviderHarness) -> None:
    await harness.start_controller()
    first, second = await asyncio.gather(harness.node.add(), harness.node.add())

    assert first == second == await harness.node.add()
    assert requested_paths(harness) == [ALLOCATE_PATH]


async def test_each_nic_of_a_pod_is_bound_in_its_own_add(harness: ProviderHarness) -> None:
    harness.networks.modes["net1"] = "auto"
    await harness.start_controller()
    await harness.node.add()
    await harness.node.add(CNI_IFNAME="net1")

    endpoint = await harness.node.endpoint()
    assert endpoint is not None
    assert [(nic.interface, nic.vlan) for nic in endpoint.nics] == [("eth0", 100), ("net1", 100)]
    assert len(harness.provider.bound) == 2


async def test_an_add_with_the_vlan_mode_manual_sends_no_request_to_the_provider(
    harness: ProviderHarness,
) -> None:
    harness.networks.modes["eth0"] = "manual"
    await harness.node.add()
    await harness.node.delete()

    assert await harness.everything_is_released()
    assert not harness.provider.calls


async def test_an_add_that_the_provider_rejects_fails_and_leaves_no_claim(
    harness: ProviderHarness,
) -> None:
    await harness.start_controller()
    harness.provider.faults.append(Fault.REFUSED)
    error = (await harness.node.call("ADD")).error

    assert error["code"] == 11  # CNI: try again later
    assert "the provider did not bind" in error["msg"]
    assert "no VLAN is left" in error["msg"]
    assert "orbctl workflow history external/shop/web-0/uid-web-0" in error["details"]
    await eventually(harness.everything_is_released)
    assert await harness.node.add(), "the next attempt of the runtime succeeds"


async def test_adds_fail_while_the_provider_is_away_and_a_later_add_succeeds(
    harness: ProviderHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.jobs.provider.binding.UNKNOWN_OUTCOME_S", 0.5)
    # The controller starts a request only while 48 s (BUDGET_S_MIN) of these 54 s are left.
    harness.set_bind_timeout(54)
    harness.provider.lasting_fault = Fault.REQUEST_LOST
    await harness.start_controller()
    error = (await harness.node.call("ADD")).error

    assert "the provider did not bind" in error["msg"]
    second_error = (await harness.node.call("ADD")).error
    assert "are still being released by the network provider" in second_error["msg"]
    harness.provider.lasting_fault = None
    await eventually(harness.everything_is_released)
    assert await harness.node.add()
    assert requested_paths(harness)[-2:] == [RELEASE_PATH, ALLOCATE_PATH]


async def test_another_controller_finishes_the_bind_of_a_killed_controller(
    harness: ProviderHarness,
) -> None:
    harness.provider.faults.append(Fault.SILENT)
    await harness.start_controller()
    adding = asyncio.create_task(harness.node.add())

    async def bind_is_requested() -> bool:
        return ALLOCATE_PATH in requested_paths(harness)

    await eventually(bind_is_requested)
    await harness.kill_controller()
    await harness.start_controller("controller-1")
    (address,) = await adding

    assert harness.provider.bound == {address.partition("/")[0]: "uid-web-0"}
    assert requested_paths(harness) == [ALLOCATE_PATH, ALLOCATE_PATH]


async def test_an_add_without_a_controller_times_out_and_its_address_is_released_later(
    harness: ProviderHarness,
) -> None:
    harness.set_bind_timeout(0.2)
    error = (await harness.node.call("ADD")).error

    assert "the network provider did not bind the addresses within 0.2 s" in error["msg"]
    assert "orbctl status" in error["details"]
    await harness.start_controller()
    await eventually(harness.everything_is_released)


async def test_a_late_add_of_an_older_pod_keeps_the_binding_of_the_newer_pod(
    harness: ProviderHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start_controller()
    await harness.node.add()
    bound = dict(harness.provider.bound)

    async def deny_that_pod_exists(_: PodReference) -> None:
        raise WrongInput("Pod shop/web-0, UID older, does not exist any more")

    allocator = getattr(harness.node.process.parts.handlers.add._allocate, "__self__", None)
    monkeypatch.setattr(allocator, "_confirm", deny_that_pod_exists)
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=older"
    late_add = await harness.node.call("ADD", CNI_CONTAINERID="c-older", CNI_ARGS=args)

    assert late_add.error["code"] == 112  # the code of WrongInput
    assert harness.provider.bound == bound
    assert set(await harness.node.claims()) == set(bound)
