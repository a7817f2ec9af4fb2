"""Binding and release with a failing provider.

At the end of every test, exactly the claimed addresses are bound.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from core.errors import ExecutionFailed
from tests.support.node_harness import pod
from tests.workflows.jobs.provider.binding_harness import (
    PARENT_MACS,
    REQUEST_S,
    SILENT_REQUEST_S,
    BindingHarness,
    open_node,
)
from tests.workflows.jobs.provider.fake_provider import FakeProvider, Fault
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH
from workflows.model.policies import ExecutionStatus


async def test_the_result_and_the_endpoint_have_the_mac_and_vlan_of_the_provider(
    harness: BindingHarness,
) -> None:
    endpoint = await harness.claim("eth0", "net1")
    request = await harness.binding_request(endpoint)
    result = await (await harness.start(request)).result()
    endpoint_after_bind = await harness.endpoint()

    assert endpoint_after_bind is not None
    assert {
        (nic.ipv4.partition("/")[0], nic.mac, nic.vlan) for nic in endpoint_after_bind.nics
    } == {(address.address, address.mac, address.vlan) for address in result.bound}
    assert all(nic.mac and nic.vlan == 100 for nic in endpoint_after_bind.nics)


async def test_requests_name_the_pod_its_node_and_each_address(harness: BindingHarness) -> None:
    endpoint = await harness.claim("eth0")
    request = await harness.binding_request(endpoint)
    await (await harness.start(request)).result()
    release = await harness.request_release(request)
    await release.result()
    (bind_path, bind_body, bind_timeout_ms), (release_path, release_body, _) = (
        harness.provider.calls
    )
    pod_fields = {
        "podName": "web",
        "podNamespace": "shop",
        "podUID": "uid-web",
        "nodeName": "node-a",
    }
    address = endpoint.addresses()[0][0]
    address_fields = {
        "ipAddress": address,
        "subnet": "10.6.0.0/16",
        "parentNicMac": PARENT_MACS["eth0"],
    }

    assert (bind_path, bind_body) == (
        ALLOCATE_PATH,
        {**pod_fields, "iaasIPsAllocationRequest": [address_fields]},
    )
    assert bind_timeout_ms == f"{REQUEST_S * 1000:.0f}"
    assert (release_path, release_body) == (RELEASE_PATH, {**pod_fields, **address_fields})


@pytest.mark.parametrize(
    "fault", [Fault.BROKEN, Fault.DONE_BUT_BROKEN, Fault.ANSWER_LOST, Fault.REQUEST_LOST]
)
async def test_a_failed_request_is_retried_and_binds_once(
    harness: BindingHarness, fault: Fault
) -> None:
    harness.provider.faults.extend([fault, fault])
    request = await harness.binding_request(await harness.claim())

    assert len((await (await harness.start(request)).result()).bound) == 1
    assert len(harness.provider.calls) == 3


@pytest.mark.parametrize(
    ("fault", "request_s"),
    [
        (Fault.REFUSED, REQUEST_S),
        (Fault.NONSENSE, REQUEST_S),
        (Fault.OTHER_ADDRESS, REQUEST_S),
        (Fault.SILENT, SILENT_REQUEST_S),
    ],
)
async def test_a_failed_bind_releases_the_claims(harness: BindingHarness, fault: Fault) -> None:
    request = await harness.binding_request(await harness.claim("eth0", "net1"))
    harness.provider.faults.extend([fault] * 12)  # more faults than requests
    handle = await harness.start(request)
    await harness.env.advance(52)  # no request starts in the last 48 s of the 100 s
    harness.provider.faults.clear()
    with pytest.raises(ExecutionFailed, match="did not bind"):
        await handle.result()

    assert not await harness.claimed()
    assert await harness.endpoint() is None


async def test_no_bind_request_is_sent_when_too_little_time_is_left(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim(), wait_s=47)
    with pytest.raises(ExecutionFailed, match="too little time left for the provider call"):
        await (await harness.start(request)).result()

    assert ALLOCATE_PATH not in [path for path, _, _ in harness.provider.calls]


@pytest.mark.parametrize("request_s", [SILENT_REQUEST_S])
async def test_an_address_that_the_provider_binds_late_is_released(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim())
    harness.provider.faults.extend([Fault.LATE] * 12)  # more faults than requests
    handle = await harness.start(request)
    await harness.env.advance(60)
    harness.provider.faults.clear()
    harness.provider.execute_late_requests()

    assert harness.provider.bound
    with pytest.raises(ExecutionFailed):
        await handle.result()
    assert not harness.provider.bound


async def test_an_address_whose_claim_ended_during_the_bind_is_released(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim())
    await harness.node.delete(pod("web"))
    with pytest.raises(ExecutionFailed, match="claims ended"):
        await (await harness.start(request)).result()

    assert [path for path, _, _ in harness.provider.calls] == [ALLOCATE_PATH, RELEASE_PATH]


async def test_an_address_stays_claimed_until_the_provider_has_released_it(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim())
    await (await harness.start(request)).result()
    harness.provider.lasting_fault = Fault.REQUEST_LOST
    release = await harness.request_release(request)
    await harness.env.advance(600)

    assert await harness.claimed() == set(harness.provider.bound)
    assert await release.status() is ExecutionStatus.RUNNING
    harness.provider.lasting_fault = None
    assert (await release.result()).why == "released"
    assert not await harness.claimed()


async def test_an_execution_pauses_after_the_last_failed_attempt_of_a_release(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim())
    await (await harness.start(request)).result()
    harness.provider.lasting_fault = Fault.BROKEN
    release = await harness.request_release(request)
    await harness.env.advance(3 * 3600)

    assert await release.status() is ExecutionStatus.PAUSED
    assert await harness.claimed()
    harness.provider.lasting_fault = None
    await release.retry()
    await release.result()
    assert not await harness.claimed()


async def test_a_release_is_sent_for_addresses_that_were_never_bound(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim("eth0", "net1"))
    await (await harness.request_release(request)).result()

    assert not await harness.claimed()
    assert [path for path, _, _ in harness.provider.calls] == [RELEASE_PATH, RELEASE_PATH]


async def test_a_release_waits_for_the_running_bind(harness: BindingHarness) -> None:
    request = await harness.binding_request(await harness.claim())
    harness.provider.faults.extend([Fault.BROKEN] * 3)
    await harness.start(request)
    await harness.env.settle()
    release = await harness.request_release(request)
    assert await release.query("doing") == "binding"

    assert (await release.result()).why == "released"
    assert [path for path, _, _ in harness.provider.calls] == [ALLOCATE_PATH] * 4 + [RELEASE_PATH]


async def test_a_repeated_release_does_not_affect_a_newer_claim_of_the_address(
    harness: BindingHarness,
) -> None:
    request = await harness.binding_request(await harness.claim())
    await (await harness.request_release(request)).result()
    second_request = await harness.binding_request(await harness.claim())
    await (await harness.start(second_request)).result()
    calls = len(harness.provider.calls)
    await (await harness.request_release(request)).result()

    assert request.addresses == second_request.addresses
    assert await harness.claimed()
    assert len(harness.provider.calls) == calls


@pytest.mark.parametrize("seed", range(6))
async def test_bound_addresses_equal_claimed_addresses_after_random_faults(seed: int) -> None:
    rng = random.Random(seed)
    node = await open_node()
    faults = [fault for fault in Fault if fault not in (Fault.LATE, Fault.SILENT)]
    async with FakeProvider() as provider:
        harness = BindingHarness(provider, node, replays=False)
        await harness.env.open()
        handles = []
        for number in range(5):
            request = await harness.binding_request(
                await harness.claim("eth0", "net1", name=f"web-{number}")
            )
            provider.faults.extend(rng.choices(faults, k=rng.randrange(4)))
            handles.append(await harness.start(request))
            if rng.random() < 0.5:
                await harness.env.advance(rng.choice([0, 1, 5]))
                await harness.request_release(request)
        for handle in handles:
            with suppress(ExecutionFailed):
                await handle.result()
        await harness.check()
        await harness.close()
    await node.__aexit__(None, None, None)
