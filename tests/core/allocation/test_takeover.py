"""A takeover of 300 Pods, on etcd and in memory: each address is claimed once, also if repeated."""

from __future__ import annotations

from dataclasses import dataclass

from core.allocation.assigner import Assigner
from core.allocation.takeover import TakeoverResult, TakeoverRun
from core.domain.claims.takeover import TakeoverPlan, plan_takeover, remaining
from tests.core.manifests.spiderpool_dumps import cluster, endpoint, nic, pool, reservation
from tests.support.node_harness import TEST_CAUSE, NodeHarness, addresses, check_everything, pod

PODS = 300


def big() -> TakeoverPlan:
    """A plan for 300 Pods of a disabled pool; one address was reserved after its allocation."""
    records = {f"10.6.{1 + number // 250}.{number % 250}": number for number in range(PODS)}
    texts = {address: f"shop/web-{number} uid-web-{number}" for address, number in records.items()}
    return plan_takeover(
        cluster(
            pool("p", "10.6.0.0/16", "10.6.1.0-10.6.2.255", records=texts, disable=True),
            reservation("later", "10.6.1.7"),
            *(
                endpoint(f"web-{number}", f"uid-web-{number}", nic(f"{address}/16", "p"))
                for address, number in records.items()
            ),
        )
    )


@dataclass
class Runner:
    """Carries out plans on a node."""

    node: NodeHarness

    async def run(self, plan: TakeoverPlan) -> TakeoverResult:
        node = self.node
        ledger = await node.read_ledger()
        assigner = Assigner(node.store, node.keys, node.writer, node.view)
        open_steps = remaining(plan, ledger.pools, ledger.endpoints)
        return await TakeoverRun(node.configurator, assigner, TEST_CAUSE).carry_out(open_steps)


async def test_every_address_is_claimed_after_a_takeover(node: NodeHarness) -> None:
    outcome = await Runner(node).run(big())

    assert (outcome.endpoints, outcome.refused) == (PODS, ())
    ledger = await check_everything(node)
    assert len(ledger.claims) == PODS
    assert ledger.pools["p"].disabled
    assert "later" in ledger.reservations


async def test_repeating_a_takeover_writes_nothing(node: NodeHarness) -> None:
    await Runner(node).run(big())
    before = len(await node.log())

    assert await Runner(node).run(big()) == TakeoverResult(0, 0, ())
    assert len(await node.log()) == before


async def test_an_interrupted_takeover_is_continued(node: NodeHarness) -> None:
    plan = big()
    await Runner(node).run(plan._replace(endpoints=plan.endpoints[:100]))
    outcome = await Runner(node).run(plan)

    assert outcome.endpoints == PODS - 100
    assert len((await check_everything(node)).claims) == PODS


async def test_a_running_pod_keeps_its_address_and_gives_it_back(node: NodeHarness) -> None:
    await Runner(node).run(big())
    web = pod("web-7", "uid-web-7")

    assert addresses(await node.add(web)) == {"10.6.1.7"}
    assert (await node.delete(web)).addresses == ("10.6.1.7",)
    assert len((await check_everything(node)).claims) == PODS - 1


async def test_a_refused_step_does_not_stop_the_others(node: NodeHarness) -> None:
    plan = plan_takeover(
        cluster(
            pool("p", "10.6.0.0/16", "10.6.1.0-10.6.1.9"),
            endpoint("lost", "u1", nic("10.9.0.1/16", "gone")),
            endpoint("web", "u2", nic("10.6.1.1/16", "p")),
        )
    )
    outcome = await Runner(node).run(plan)

    assert outcome.endpoints == 1
    assert [refusal.rule for error in outcome.refused for refusal in error.refusals] == ["no-pool"]
