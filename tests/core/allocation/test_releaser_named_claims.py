"""A reclaim step releases the claims that the step names, or nothing if a claim has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from core.allocation.releaser import CHANGED_SINCE, RECLAIMED, Released, Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import AddressesReleased
from core.domain.reclaim.evidence import Observation, ObservationSubject
from core.domain.reclaim.reclaim_plan import ReclaimStep, plan_scan
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.kv import Delete, Put
from core.eventstore.memory_store import MemoryStore
from tests.core.domain.reclaim.samples import NOW_S, cluster, verdict_context
from tests.support.node_harness import (
    TEST_CAUSE,
    NodeHarness,
    addresses,
    check_everything,
    pod,
    pool,
)

WEB = pod("web-0", "1")


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.1-10.6.0.9"))
        yield node


async def carry_out(node: NodeHarness, step: ReclaimStep) -> Released:
    """Carry out the step with a releaser whose cache is empty."""
    releaser = Releaser(node.store, node.keys, node.writer, node.cooldown)
    return await releaser.reclaim(step, TEST_CAUSE)


async def planned_steps(node: NodeHarness) -> tuple[ReclaimStep, ...]:
    """Return the steps that the second of two scans plans for a cluster without Pods."""
    before: dict[ObservationSubject, Observation] = {}
    steps: tuple[ReclaimStep, ...] = ()
    for at_s in (NOW_S, NOW_S + 60):
        plan = plan_scan(
            await node.read_ledger(), verdict_context(cluster(at_s=at_s)), before=before
        )
        before, steps = plan.observations, plan.steps
    return steps


async def test_a_step_releases_its_addresses_and_logs_the_evidence(
    node: NodeHarness,
) -> None:
    added = await node.add(WEB)
    (step,) = await planned_steps(node)

    released = await carry_out(node, step)

    assert (set(released.addresses), released.why) == (addresses(added), RECLAIMED)
    event = (await node.log())[-1].event
    assert isinstance(event, AddressesReleased)
    assert event.reason == "reclaimed"
    assert event.evidence.startswith("pod-gone: Pod shop/web-0 is gone (listing, seen 2 times")
    ledger = await check_everything(node)
    assert not ledger.claims
    assert not ledger.endpoints


async def test_a_repeated_step_is_a_no_op(node: NodeHarness) -> None:
    await node.add(WEB)
    (step,) = await planned_steps(node)
    await carry_out(node, step)
    events = len(await node.log())

    repeated = await carry_out(node, step)

    assert repeated == Released((), CHANGED_SINCE)
    assert len(await node.log()) == events


async def _add_new_pod(node: NodeHarness) -> None:
    await node.add(pod("web-0", "2"))


async def _add_new_sandbox(node: NodeHarness) -> None:
    await node.add(WEB, container="another box")


async def _release_and_claim_again(node: NodeHarness) -> None:
    await node.delete(WEB)
    await node.add(WEB)


async def _write_claim_again(node: NodeHarness) -> None:
    ((address, revised),) = (await node.read_ledger()).claims.items()
    await node.store.commit([], [Put(node.keys.ip_of(address), CLAIM_CODEC.encode(revised.claim))])


async def _lose_endpoint(node: NodeHarness) -> None:
    await node.store.commit([], [Delete(node.keys.endpoint("shop", "web-0"))])


@pytest.mark.parametrize(
    "change",
    [
        _add_new_pod,
        _add_new_sandbox,
        _release_and_claim_again,
        _write_claim_again,
        _lose_endpoint,
    ],
)
async def test_a_step_is_a_no_op_if_the_claim_or_the_endpoint_has_changed(
    node: NodeHarness, change: Callable[[NodeHarness], Awaitable[None]]
) -> None:
    await node.add(WEB)
    (step,) = await planned_steps(node)
    await change(node)
    claims = (await node.read_ledger()).claims

    released = await carry_out(node, step)

    assert released == Released((), CHANGED_SINCE)
    assert (await node.read_ledger()).claims == claims


async def test_a_step_without_claims_ends_only_the_endpoint(node: NodeHarness) -> None:
    """See docs/reference/reclaim-rules.md, "Addresses in use"."""
    await node.add(WEB)
    old = (await node.read_ledger()).endpoints["shop", "web-0"]._replace(uid="0", holder="pod/0")
    await node.store.commit([], [Put(node.keys.endpoint(*old.key), ENDPOINT_CODEC.encode(old))])
    step = next(planned for planned in await planned_steps(node) if planned.ends_endpoint)
    assert step.addresses == ()

    released = await carry_out(node, step)

    ledger = await node.read_ledger()
    assert released.revision > 0  # committed
    assert [revised.claim.holder for revised in ledger.claims.values()] == ["pod/1"]
    assert not ledger.endpoints


async def test_a_step_for_claims_without_an_endpoint_releases_only_these_claims(
    node: NodeHarness,
) -> None:
    await node.add(WEB)
    await node.add(pod("web-1", "2"))
    await _lose_endpoint(node)
    (step_of_orphaned_claims, other_step) = sorted(
        await planned_steps(node), key=lambda step: step.ends_endpoint
    )

    released = await carry_out(node, step_of_orphaned_claims)

    assert set(released.addresses) == set(step_of_orphaned_claims.addresses)
    assert (await node.read_ledger()).claims.keys() == set(other_step.addresses)


async def test_a_step_for_claims_that_no_endpoint_lists_changes_no_endpoint(
    node: NodeHarness,
) -> None:
    await node.add(WEB)
    ((_, revised),) = (await node.read_ledger()).claims.items()
    orphaned = revised.claim._replace(holder="pod/0")
    await node.store.commit([], [Put(node.keys.ip_of("10.6.0.200"), CLAIM_CODEC.encode(orphaned))])
    before = (await node.read_ledger()).endpoints
    step = next(planned for planned in await planned_steps(node) if not planned.ends_endpoint)

    released = await carry_out(node, step)

    assert released.addresses == ("10.6.0.200",)
    assert (await node.read_ledger()).endpoints == before


async def test_a_step_changes_nothing_after_a_del(node: NodeHarness) -> None:
    await node.add(WEB)
    (step,) = await planned_steps(node)
    await node.releaser.release(
        WEB.endpoint_key,
        lambda _: ReleaseDecision(ends=True, why="the sandbox is gone"),
        ReleaseRequest("deleted", "CNI DEL", TEST_CAUSE),
    )

    assert (await carry_out(node, step)).why == CHANGED_SINCE
    assert not (await check_everything(node)).claims
