"""A takeover claims every address that Pods hold in a Spiderpool cluster, exactly once."""

from __future__ import annotations

import json

from core.allocation.assigner import Assigner
from core.allocation.takeover import TakeoverResult, TakeoverRun
from core.domain.claims.takeover import TakeoverPlan, plan_takeover, remaining_plan
from core.domain.reclaim.evidence import PodState
from tests.core.domain.reclaim.samples import released_addresses, second_plan
from tests.core.manifests.spiderpool_dumps import (
    spider_endpoint,
    spider_ip_pool,
    spider_nic,
    spider_reserved_ip,
    spiderpool_cluster,
)
from tests.support.node_harness import TEST_CAUSE, NodeHarness, addresses, check_everything, pod

PODS = 300


def plan_of_300_pods() -> TakeoverPlan:
    """Return a plan for 300 Pods. Their pool is disabled, and one address is reserved."""
    numbers = {f"10.6.{1 + number // 250}.{number % 250}": number for number in range(PODS)}
    texts = {address: f"shop/web-{number} uid-web-{number}" for address, number in numbers.items()}
    return plan_takeover(
        spiderpool_cluster(
            spider_ip_pool(
                "p", "10.6.0.0/16", "10.6.1.0-10.6.2.255", allocations=texts, disable=True
            ),
            spider_reserved_ip("later", "10.6.1.7"),
            *(
                spider_endpoint(
                    f"web-{number}", f"uid-web-{number}", spider_nic(f"{address}/16", "p")
                )
                for address, number in numbers.items()
            ),
        )
    )


async def carry_out(node: NodeHarness, plan: TakeoverPlan) -> TakeoverResult:
    """Carry out the plan's remaining steps."""
    ledger = await node.read_ledger()
    assigner = Assigner(node.store, node.keys, node.writer, node.view)
    open_steps = remaining_plan(plan, pools=ledger.pools, endpoints=ledger.endpoints)
    return await TakeoverRun(node.configurator, assigner, TEST_CAUSE).carry_out(open_steps)


async def test_every_address_is_claimed_after_a_takeover(node: NodeHarness) -> None:
    outcome = await carry_out(node, plan_of_300_pods())

    assert (outcome.endpoints, outcome.refused) == (PODS, ())
    ledger = await check_everything(node)
    assert len(ledger.claims) == PODS
    assert ledger.pools["p"].disabled
    assert "later" in ledger.reservations


async def test_a_repeated_takeover_writes_nothing(node: NodeHarness) -> None:
    await carry_out(node, plan_of_300_pods())
    before = len(await node.log())

    assert await carry_out(node, plan_of_300_pods()) == TakeoverResult(
        commands=0, endpoints=0, refused=()
    )
    assert len(await node.log()) == before


async def test_an_interrupted_takeover_is_continued(node: NodeHarness) -> None:
    plan = plan_of_300_pods()
    await carry_out(node, plan._replace(endpoints=plan.endpoints[:100]))
    outcome = await carry_out(node, plan)

    assert outcome.endpoints == PODS - 100
    assert len((await check_everything(node)).claims) == PODS


async def test_a_running_pod_keeps_its_address_until_its_del(
    node: NodeHarness,
) -> None:
    await carry_out(node, plan_of_300_pods())
    web = pod("web-7", "uid-web-7")

    assert addresses(await node.add(web)) == {"10.6.1.7"}
    assert (await node.delete(web)).addresses == ("10.6.1.7",)
    assert len((await check_everything(node)).claims) == PODS - 1


async def test_a_fixed_pod_whose_nics_shared_an_address_gets_both_families_after_a_restart(
    node: NodeHarness,
) -> None:
    """Spiderpool gives the NICs of a Pod that use one pool the same address.

    The takeover leaves the address at eth0. net1 keeps only IPv6 until the restart.
    """
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", "10.6.0.0/16", "10.6.1.1-10.6.1.9"),
            spider_ip_pool("p6", "fd00::/64", "fd00::1-fd00::9"),
            spider_endpoint(
                "db-0",
                "old",
                spider_nic("10.6.1.1/16", "p"),
                spider_nic("10.6.1.1/16", "p", "net1", ipv6="fd00::2/64", ipv6Pool="p6"),
                owner="StatefulSet",
                outlives_pod=True,
            ),
        )
    )
    await carry_out(node, plan)
    requested = json.dumps(
        [
            {"interface": "eth0", "ipv4": ["p"]},
            {"interface": "net1", "ipv4": ["p"], "ipv6": ["p6"]},
        ]
    )
    restarted = pod(
        "db-0", "new", fixed="statefulset", annotations={"ipam.spidernet.io/ippools": requested}
    )
    await node.add(restarted, "eth0")
    added = await node.add(restarted, "net1")

    assert [len(nic.addresses()) for nic in added.endpoint.nics] == [1, 2]
    assert added.endpoint.holder == "statefulset/shop/db-0"
    await check_everything(node)


async def test_addresses_recorded_with_two_uids_are_kept_while_a_pod_of_the_name_lives(
    node: NodeHarness,
) -> None:
    texts = {"10.6.1.1": "shop/web u1", "10.6.1.2": "shop/web u2"}
    pool = spider_ip_pool("p", "10.6.0.0/16", "10.6.1.1-10.6.1.9", allocations=texts)
    await carry_out(node, plan_takeover(spiderpool_cluster(pool)))
    ledger = await check_everything(node)
    living = PodState("shop", "web", "u2", ips=("10.9.0.1",))

    assert released_addresses(second_plan(ledger, living)) == set()
    assert released_addresses(second_plan(ledger)) == set(texts)


async def test_a_refused_step_does_not_stop_the_other_steps(node: NodeHarness) -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", "10.6.0.0/16", "10.6.1.0-10.6.1.9"),
            spider_endpoint("lost", "u1", spider_nic("10.9.0.1/16", "gone")),
            spider_endpoint("web", "u2", spider_nic("10.6.1.1/16", "p")),
        )
    )
    outcome = await carry_out(node, plan)

    assert outcome.endpoints == 1
    assert [refusal.rule for error in outcome.refused for refusal in error.refusals] == ["no-pool"]
