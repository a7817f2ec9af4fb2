"""Binding and unbinding with a failing provider: bound exactly as long as claimed."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from core.errors import ExecutionFailed
from tests.support.node_harness import pod
from tests.workflows.jobs.provider.binding_harness import (
    PARENTS,
    REQUEST_S,
    SILENT_REQUEST_S,
    BindingHarness,
    town,
)
from tests.workflows.jobs.provider.fake_provider import FakeProvider, Fault
from workflows.jobs.provider.client import ALLOCATE, RELEASE
from workflows.model.policies import ExecutionStatus


async def test_what_the_provider_chose_is_the_result_and_in_the_endpoint(
    harness: BindingHarness,
) -> None:
    endpoint = await harness.claim("eth0", "net1")
    request = await harness.request(endpoint)
    result = await (await harness.start(request)).result()
    after = await harness.endpoint()

    assert after is not None
    assert {(nic.ipv4.partition("/")[0], nic.mac, nic.vlan) for nic in after.nics} == {
        (one.address, one.mac, one.vlan) for one in result.bound
    }
    assert all(nic.mac and nic.vlan == 100 for nic in after.nics)


async def test_the_provider_is_told_what_it_has_to_know(harness: BindingHarness) -> None:
    endpoint = await harness.claim("eth0")
    request = await harness.request(endpoint)
    await (await harness.start(request)).result()
    back = await harness.give_back(request)
    await back.result()
    (allocate, bind, bind_ms), (release, free, _) = harness.provider.calls
    who = {
        "podName": "web",
        "podNamespace": "shop",
        "podUID": "uid-web",
        "nodeName": "node-a",
    }
    address = endpoint.addresses()[0][0]
    where = {"ipAddress": address, "subnet": "10.6.0.0/16", "parentNicMac": PARENTS["eth0"]}

    assert (allocate, bind) == (ALLOCATE, {**who, "iaasIPsAllocationRequest": [where]})
    assert bind_ms == f"{REQUEST_S * 1000:.0f}"
    assert (release, free) == (RELEASE, {**who, **where})


@pytest.mark.parametrize(
    "fault", [Fault.BROKEN, Fault.DONE_BUT_BROKEN, Fault.ANSWER_LOST, Fault.REQUEST_LOST]
)
async def test_a_call_that_failed_is_made_again_and_binds_once(
    harness: BindingHarness, fault: Fault
) -> None:
    harness.provider.faults.extend([fault, fault])
    request = await harness.request(await harness.claim())

    assert len((await (await harness.start(request)).result()).bound) == 1
    assert len(harness.provider.calls) == 3


@pytest.mark.parametrize(
    ("fault", "request_s"),
    [
        (Fault.REFUSED, REQUEST_S),
        (Fault.NONSENSE, REQUEST_S),
        (Fault.STRANGER, REQUEST_S),
        (Fault.SILENT, SILENT_REQUEST_S),
    ],
)
async def test_what_cannot_be_bound_is_taken_back_and_its_claims_end(
    harness: BindingHarness, fault: Fault
) -> None:
    request = await harness.request(await harness.claim("eth0", "net1"))
    harness.provider.faults.extend([fault] * 12)
    handle = await harness.start(request)
    await harness.env.advance(52)  # no call starts when less than 48 s of the 100 s are left
    harness.provider.faults.clear()
    with pytest.raises(ExecutionFailed, match="did not bind"):
        await handle.result()

    assert not await harness.claimed()
    assert await harness.endpoint() is None


async def test_without_time_for_a_call_none_is_made(harness: BindingHarness) -> None:
    request = await harness.request(await harness.claim(), wait_s=47)
    with pytest.raises(ExecutionFailed, match="too little time left for the provider call"):
        await (await harness.start(request)).result()

    assert ALLOCATE not in [path for path, _, _ in harness.provider.calls]


@pytest.mark.parametrize("request_s", [SILENT_REQUEST_S])
async def test_a_request_that_is_carried_out_late_is_taken_back_too(
    harness: BindingHarness,
) -> None:
    request = await harness.request(await harness.claim())
    harness.provider.faults.extend([Fault.LATE] * 12)
    handle = await harness.start(request)
    await harness.env.advance(60)
    harness.provider.faults.clear()
    harness.provider.finish_late()

    assert harness.provider.bound
    with pytest.raises(ExecutionFailed):
        await handle.result()
    assert not harness.provider.bound


async def test_a_claim_that_ended_meanwhile_is_not_left_bound(harness: BindingHarness) -> None:
    request = await harness.request(await harness.claim())
    await harness.node.delete(pod("web"))
    with pytest.raises(ExecutionFailed, match="claims ended"):
        await (await harness.start(request)).result()

    assert [path for path, _, _ in harness.provider.calls] == [ALLOCATE, RELEASE]


async def test_an_address_stays_claimed_until_the_provider_has_let_go(
    harness: BindingHarness,
) -> None:
    request = await harness.request(await harness.claim())
    await (await harness.start(request)).result()
    harness.provider.away = Fault.REQUEST_LOST
    back = await harness.give_back(request)
    await harness.env.advance(600)

    assert await harness.claimed() == set(harness.provider.bound)
    assert await back.status() is ExecutionStatus.RUNNING
    harness.provider.away = None
    assert (await back.result()).why == "released"
    assert not await harness.claimed()


async def test_a_provider_that_does_not_come_back_is_left_to_a_human(
    harness: BindingHarness,
) -> None:
    request = await harness.request(await harness.claim())
    await (await harness.start(request)).result()
    harness.provider.away = Fault.BROKEN
    back = await harness.give_back(request)
    await harness.env.advance(3 * 3600)

    assert await back.status() is ExecutionStatus.PAUSED
    assert await harness.claimed()
    harness.provider.away = None
    await back.retry()
    await back.result()
    assert not await harness.claimed()


async def test_what_is_not_bound_is_given_back_all_the_same(harness: BindingHarness) -> None:
    request = await harness.request(await harness.claim("eth0", "net1"))
    await (await harness.give_back(request)).result()

    assert not await harness.claimed()
    assert [path for path, _, _ in harness.provider.calls] == [RELEASE, RELEASE]


async def test_giving_back_waits_for_the_bind_that_is_under_way(harness: BindingHarness) -> None:
    request = await harness.request(await harness.claim())
    harness.provider.faults.extend([Fault.BROKEN] * 3)
    await harness.start(request)
    await harness.env.settle()
    back = await harness.give_back(request)
    assert await back.query("doing") == "binding"

    assert (await back.result()).why == "released"
    assert [path for path, _, _ in harness.provider.calls] == [ALLOCATE] * 4 + [RELEASE]


async def test_giving_back_again_takes_nothing_from_whoever_has_the_address_now(
    harness: BindingHarness,
) -> None:
    request = await harness.request(await harness.claim())
    await (await harness.give_back(request)).result()
    again = await harness.request(await harness.claim())
    await (await harness.start(again)).result()
    calls = len(harness.provider.calls)
    await (await harness.give_back(request)).result()

    assert request.addresses == again.addresses  # a Pod gets its previous address
    assert await harness.claimed()
    assert len(harness.provider.calls) == calls


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_what_is_bound_is_what_is_claimed(seed: int) -> None:
    chance = random.Random(seed)
    node = await town()
    faults = [each for each in Fault if each not in (Fault.LATE, Fault.SILENT)]
    async with FakeProvider() as provider:
        harness = BindingHarness(provider, node, replays=False)
        await harness.env.open()
        handles = []
        for number in range(5):
            request = await harness.request(
                await harness.claim("eth0", "net1", name=f"web-{number}")
            )
            provider.faults.extend(chance.choices(faults, k=chance.randrange(4)))
            handles.append(await harness.start(request))
            if chance.random() < 0.5:
                await harness.env.advance(chance.choice([0, 1, 5]))
                await harness.give_back(request)
        for handle in handles:
            with suppress(ExecutionFailed):
                await handle.result()
        await harness.check()
        await harness.close()
    await node.__aexit__(None, None, None)
