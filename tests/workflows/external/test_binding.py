"""Bind and give back, with a provider that fails: bound exactly as long as claimed."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from core.errors import ExecutionFailed
from tests.support.nodes import pod
from tests.workflows.external.fake_provider import FakeProvider, Fault
from tests.workflows.external.stage import PARENTS, Scene, town
from workflows.jobs.provider.wire import ALLOCATE, RELEASE
from workflows.model.policies import ExecutionStatus


async def test_what_the_provider_chose_is_the_result_and_in_the_endpoint(scene: Scene) -> None:
    endpoint = await scene.claim("eth0", "net1")
    order = await scene.order(endpoint)
    result = await (await scene.start(order)).result()
    after = await scene.endpoint()

    assert after is not None
    assert {(nic.ipv4.partition("/")[0], nic.mac, nic.vlan) for nic in after.nics} == {
        (one.address, one.mac, one.vlan) for one in result.bound
    }
    assert all(nic.mac and nic.vlan == 100 for nic in after.nics)


async def test_the_provider_is_told_what_it_has_to_know(scene: Scene) -> None:
    endpoint = await scene.claim("eth0")
    order = await scene.order(endpoint)
    await (await scene.start(order)).result()
    back = await scene.give_back(order)
    await back.result()
    (allocate, bind, bind_ms), (release, free, _) = scene.provider.calls
    who = {
        "podName": "web",
        "podNamespace": "shop",
        "podUID": "uid-web",
        "nodeName": "node-a",
    }
    address = endpoint.addresses()[0][0]
    where = {"ipAddress": address, "subnet": "10.6.0.0/16", "parentNicMac": PARENTS["eth0"]}

    assert (allocate, bind) == (ALLOCATE, {**who, "iaasIPsAllocationRequest": [where]})
    assert bind_ms == "200"
    assert (release, free) == (RELEASE, {**who, **where})


@pytest.mark.parametrize(
    "fault", [Fault.BROKEN, Fault.DONE_BUT_BROKEN, Fault.ANSWER_LOST, Fault.REQUEST_LOST]
)
async def test_a_call_that_failed_is_made_again_and_binds_once(scene: Scene, fault: Fault) -> None:
    scene.provider.faults.extend([fault, fault])
    order = await scene.order(await scene.claim())

    assert len((await (await scene.start(order)).result()).bound) == 1
    assert len(scene.provider.calls) == 3


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.NONSENSE, Fault.STRANGER, Fault.SILENT])
async def test_what_cannot_be_bound_is_taken_back_and_its_claims_end(
    scene: Scene, fault: Fault
) -> None:
    order = await scene.order(await scene.claim("eth0", "net1"))
    scene.provider.faults.extend([fault] * 12)
    handle = await scene.start(order)
    await scene.env.advance(52)  # no call begins when less than 48 s of the 100 s are left
    scene.provider.faults.clear()
    with pytest.raises(ExecutionFailed, match="did not bind"):
        await handle.result()

    assert not await scene.claimed()
    assert await scene.endpoint() is None


async def test_without_time_for_a_call_none_is_made(scene: Scene) -> None:
    order = await scene.order(await scene.claim(), wait_s=47)
    with pytest.raises(ExecutionFailed, match="parent budget insufficient"):
        await (await scene.start(order)).result()

    assert ALLOCATE not in [path for path, _, _ in scene.provider.calls]


async def test_a_request_that_is_carried_out_late_is_taken_back_too(scene: Scene) -> None:
    order = await scene.order(await scene.claim())
    scene.provider.faults.extend([Fault.LATE] * 12)
    handle = await scene.start(order)
    await scene.env.advance(60)
    scene.provider.faults.clear()
    scene.provider.finish_late()

    assert scene.provider.bound
    with pytest.raises(ExecutionFailed):
        await handle.result()
    assert not scene.provider.bound


async def test_a_claim_that_ended_meanwhile_is_not_left_bound(scene: Scene) -> None:
    order = await scene.order(await scene.claim())
    await scene.node.delete(pod("web"))
    with pytest.raises(ExecutionFailed, match="claims ended"):
        await (await scene.start(order)).result()

    assert [path for path, _, _ in scene.provider.calls] == [ALLOCATE, RELEASE]


async def test_an_address_stays_claimed_until_the_provider_has_let_go(scene: Scene) -> None:
    order = await scene.order(await scene.claim())
    await (await scene.start(order)).result()
    scene.provider.away = Fault.REQUEST_LOST
    back = await scene.give_back(order)
    await scene.env.advance(600)

    assert await scene.claimed() == set(scene.provider.bound)
    assert await back.status() is ExecutionStatus.RUNNING
    scene.provider.away = None
    assert (await back.result()).why == "given back"
    assert not await scene.claimed()


async def test_a_provider_that_does_not_come_back_is_left_to_a_human(scene: Scene) -> None:
    order = await scene.order(await scene.claim())
    await (await scene.start(order)).result()
    scene.provider.away = Fault.BROKEN
    back = await scene.give_back(order)
    await scene.env.advance(3 * 3600)

    assert await back.status() is ExecutionStatus.PAUSED
    assert await scene.claimed()
    scene.provider.away = None
    await back.retry()
    await back.result()
    assert not await scene.claimed()


async def test_what_is_not_bound_is_given_back_all_the_same(scene: Scene) -> None:
    order = await scene.order(await scene.claim("eth0", "net1"))
    await (await scene.give_back(order)).result()

    assert not await scene.claimed()
    assert [path for path, _, _ in scene.provider.calls] == [RELEASE, RELEASE]


async def test_giving_back_waits_for_the_bind_that_is_under_way(scene: Scene) -> None:
    order = await scene.order(await scene.claim())
    scene.provider.faults.extend([Fault.BROKEN] * 3)
    await scene.start(order)
    await scene.env.settle()
    back = await scene.give_back(order)
    assert await back.query("doing") == "binding"

    assert (await back.result()).why == "given back"
    assert [path for path, _, _ in scene.provider.calls] == [ALLOCATE] * 4 + [RELEASE]


async def test_giving_back_again_takes_nothing_from_whoever_has_the_address_now(
    scene: Scene,
) -> None:
    order = await scene.order(await scene.claim())
    await (await scene.give_back(order)).result()
    again = await scene.order(await scene.claim())
    await (await scene.start(again)).result()
    calls = len(scene.provider.calls)
    await (await scene.give_back(order)).result()

    assert order.addresses == again.addresses  # a Pod gets the address back that it had
    assert await scene.claimed()
    assert len(scene.provider.calls) == calls


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_what_is_bound_is_what_is_claimed(seed: int) -> None:
    chance = random.Random(seed)
    node = await town()
    faults = [each for each in Fault if each not in (Fault.LATE, Fault.SILENT)]
    async with FakeProvider() as provider:
        scene = Scene(provider, node, replays=False)
        await scene.env.open()
        handles = []
        for number in range(5):
            order = await scene.order(await scene.claim("eth0", "net1", name=f"web-{number}"))
            provider.faults.extend(chance.choices(faults, k=chance.randrange(4)))
            handles.append(await scene.start(order))
            if chance.random() < 0.5:
                await scene.env.advance(chance.choice([0, 1, 5]))
                await scene.give_back(order)
        for handle in handles:
            with suppress(ExecutionFailed):
                await handle.result()
        await scene.check()
        await scene.close()
    await node.__aexit__(None, None, None)
