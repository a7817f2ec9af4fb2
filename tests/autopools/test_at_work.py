"""Controllers at work on both stores: many applications, one that dies, one that leads after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.domain.configuration.commands import ApplySubnet, DropAutoPool
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.events import PoolDefined
from core.domain.model import Subnet
from core.domain.subnets.subnet_model import shared_out
from core.errors import AddressesUsedOut, CallRejected, OutcomeUnknown, PoolPending
from core.eventstore.kv import KeyValueStore
from tests.autopools.scripted import key_of
from tests.autopools.stage import Stage
from tests.support.counters import Counters
from tests.support.nodes import check_everything
from tests.workflows.engine.stage import eventually, within
from tests.workflows.faults.killing import KillingStore, Moment
from workflows.engine.client.client import Client
from workflows.jobs.autopools.application import workflow_id

WIDE = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))
APPLICATIONS = 30
KILLED_APPLICATIONS = 8
TOGETHER = 100
SHORT_S = 0.3
OTHERS = 8
WAKES_TOO_MANY = 2
"""For changes that crossed with a look."""


@pytest.fixture
async def stage(store: KeyValueStore, cluster: str) -> AsyncIterator[Stage]:
    stage = Stage(store, cluster)
    await stage.open(controllers=0)
    await stage.node.apply(ApplySubnet(WIDE))
    yield stage
    await stage.close()
    await check_everything(stage.node)


async def test_thirty_applications_share_a_subnet_follow_their_sizes_and_leave_nothing(
    stage: Stage,
) -> None:
    """I00006 and I00008."""
    await stage.host()
    await stage.host()
    for number in range(APPLICATIONS):
        await stage.application(f"app-{number}", subnet="net", number="5")
    await stage.settle()
    truth = await stage.node.truth()
    assert {pool_addresses(pool).size for pool in truth.pools.values()} == {5}
    assert shared_out(WIDE, truth.pools.values()) == pool_addresses(WIDE)

    for number in range(APPLICATIONS):
        await stage.application(f"app-{number}", subnet="net", number="3" if number % 2 else "1")
    await stage.settle()
    pools = (await stage.node.truth()).pools.values()
    assert sum(pool_addresses(pool).size for pool in pools) == APPLICATIONS * 2

    for number in range(APPLICATIONS):
        await stage.remove(f"app-{number}")
    await stage.settle()
    assert (await stage.node.truth()).pools == {}


async def test_of_a_hundred_pods_that_come_before_their_pool_all_are_served_by_the_one_pool(
    stage: Stage,
) -> None:
    await stage.host()
    await stage.application("web", size=str(TOGETHER), subnet="net")

    answers = await asyncio.gather(
        *(stage.pod(f"web-{number}", of="web") for number in range(TOGETHER))
    )

    assert len(set(answers)) == TOGETHER
    made = [one.event for one in await stage.node.log() if isinstance(one.event, PoolDefined)]
    assert len(made) == 1


async def test_an_add_whose_pool_is_there_needs_no_controller(stage: Stage) -> None:
    host = await stage.host()
    await stage.application("web", size="2", subnet="net")
    await stage.settle()
    await stage.bury(host)

    assert await stage.pod("web-0", of="web") == "has 10.7.0.10"
    assert stage.waits == 0


async def test_an_add_without_a_controller_says_that_nobody_has_looked(stage: Stage) -> None:
    await stage.application("web", size="1", subnet="net")
    pod = stage.pod_facts("web-0", "web")

    with pytest.raises(PoolPending) as caught:
        await stage.add(pod, wait_s=SHORT_S)

    assert "no controller has looked at it" in caught.value.message
    assert "orbctl status" in caught.value.remedy


async def test_a_need_is_heard_by_a_controller_that_starts_later(stage: Stage) -> None:
    await stage.application("CloneSet/web", subnet="net", number="1")
    waiting = asyncio.ensure_future(stage.pod("web-0", of="CloneSet/web"))
    await eventually(lambda: _is_true(stage.waits == 1))

    await stage.host()

    assert await within(waiting) == "has 10.7.0.10"


async def test_an_add_that_finds_its_pool_full_waits_for_the_scale_that_makes_room(
    stage: Stage,
) -> None:
    await stage.host()
    await stage.application("web", size="1", subnet="net")
    await stage.pod("web-0", of="web")
    with pytest.raises(AddressesUsedOut) as caught:
        await stage.add(stage.pod_facts("web-1", "web"))
    assert "as many addresses as its application asks for" in caught.value.message

    await stage.application("web", size="2", subnet="net")

    assert await stage.pod("web-1", of="web") == "has 10.7.0.11"


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", [6, 12, 20])
async def test_a_controller_killed_at_any_write_leaves_the_rest_to_another(
    stage: Stage, at: int, moment: Moment
) -> None:
    await stage.host()
    killing = KillingStore(stage.store, at, moment)
    dies = await stage.host(killing)
    for number in range(KILLED_APPLICATIONS):
        await stage.application(f"app-{number}", subnet="net", number="2")

    async def is_over() -> bool:
        return killing.died.is_set() or await stage.is_settled()

    await eventually(is_over)
    killing.died.set()
    await stage.bury(dies)
    await stage.settle()

    Counters.kills += 1
    pools = (await stage.node.truth()).pools.values()
    assert sorted(pool_addresses(pool).size for pool in pools) == [2] * KILLED_APPLICATIONS
    made = [one.event for one in await stage.node.log() if isinstance(one.event, PoolDefined)]
    assert len(made) == KILLED_APPLICATIONS


async def test_what_happened_while_nobody_led_is_made_good_by_who_leads_next(
    stage: Stage,
) -> None:
    leader = await stage.host()
    await stage.application("stays", size="1", subnet="net")
    await stage.application("goes", size="1", subnet="net")
    await stage.settle()
    await stage.bury(leader)
    await stage.application("comes", size="1", subnet="net")
    await stage.application("stays", size="3", subnet="net")
    await stage.remove("goes")

    await stage.host()
    await stage.settle()

    pools = (await stage.node.truth()).pools
    sizes = {name.split("-")[1]: pool_addresses(pool).size for name, pool in pools.items()}
    assert sizes == {"stays": 3, "comes": 1}


async def test_an_application_that_waits_is_not_looked_at_for_what_others_do(
    stage: Stage,
) -> None:
    await stage.host()
    await stage.application("web", size="2", subnet="net")
    await stage.settle()
    await stage.pods_of("web", "2")
    await stage.application("web", size="1", subnet="net")
    looks = await _looks_when_waiting(stage)

    for number in range(OTHERS):
        await stage.application(f"other-{number}", size="1", subnet="net")
        await stage.settle()
    more = await _looks_when_waiting(stage) - looks
    assert more <= WAKES_TOO_MANY, "what others do does not concern it"

    await stage.stop("web-0")
    await stage.settle()
    (pool,) = [one for one in (await stage.node.truth()).pools.values() if "web" in one.name]
    assert pool.ips == ("10.7.0.11",)


async def test_a_wake_whose_answer_was_lost_is_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = Client.signal_with_start, ["first", "second"]

    async def forgetful(client: Client, *args: Any, **options: Any) -> Any:
        if lost:
            raise OutcomeUnknown(f"the {lost.pop(0)} answer was lost")
        return await real(client, *args, **options)

    monkeypatch.setattr(Client, "signal_with_start", forgetful)
    await stage.host()
    await stage.application("web", size="2", subnet="net")

    assert await stage.pod("web-0", of="web") == "has 10.7.0.10"
    assert not lost


async def test_a_pool_that_somebody_deletes_by_hand_comes_back(stage: Stage) -> None:
    await stage.host()
    await stage.application("web", size="2", subnet="net")
    await stage.settle()
    (pool,) = (await stage.node.truth()).pools.values()

    await stage.node.apply(DropAutoPool(pool.name, stage.applications.there[key_of("web")].uid))
    await stage.settle()

    assert list((await stage.node.truth()).pools) == [pool.name]


async def _looks_when_waiting(stage: Stage) -> int:
    async with Client(stage.store, stage.node.keys) as client:

        async def waiting() -> int:
            try:
                found: Any = await client.query(workflow_id(key_of("web")), "status", timeout_s=20)
            except CallRejected:
                return 0  # its run has only just begun
            return int(found["looks"]) if found["phase"] == "waiting" else 0

        return await eventually(waiting)


async def _is_true(value: bool) -> bool:  # what eventually asks
    return value
