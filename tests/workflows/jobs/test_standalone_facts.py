"""Without Kubernetes: a deleted record is evidence, its absence is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from core.domain.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.domain.reclaim.settings import ReclaimSettings
from core.store.keys import Keys
from core.store.memory import MemoryStore
from tests.support.nodes import Node, check_everything, pod, pool
from workflows.jobs import facts as facts_module
from workflows.jobs.books import EMPTY
from workflows.jobs.facts import StandaloneFacts
from workflows.jobs.scanning import ReclaimActivities

RECORD = RecordDefined("Pod", "shop", "web-0")
FORGET = DeleteRecord("Pod", "shop", "web-0")


class Desk(NamedTuple):
    """A node, and the look at it."""

    node: Node
    activities: ReclaimActivities


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store = MemoryStore()
    async with Node(store) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.40"))
        keys = Keys("test")
        yield Desk(
            node, ReclaimActivities(store, keys, StandaloneFacts(store, keys), ReclaimSettings())
        )
        await check_everything(node)


async def suspects(desk: Desk) -> int:
    return (await desk.activities.observe(EMPTY, EMPTY)).suspects


async def test_a_pod_without_a_record_is_no_suspect(desk: Desk) -> None:
    await desk.node.add(pod("web-0"))

    assert await suspects(desk) == 0


async def test_a_pod_whose_record_was_deleted_is_a_suspect(desk: Desk) -> None:
    await desk.node.apply(ApplyRecord(RECORD))
    await desk.node.add(pod("web-0"))
    assert await suspects(desk) == 0

    await desk.node.apply(FORGET)

    assert await suspects(desk) == 1


async def test_a_record_that_is_made_again_takes_the_suspicion_away(desk: Desk) -> None:
    await desk.node.apply(ApplyRecord(RECORD))
    await desk.node.add(pod("web-0"))
    await desk.node.apply(FORGET)
    assert await suspects(desk) == 1

    await desk.node.apply(ApplyRecord(RECORD))

    assert await suspects(desk) == 0


async def test_an_address_that_is_newer_than_the_deletion_is_no_suspect(desk: Desk) -> None:
    await desk.node.apply(ApplyRecord(RECORD))
    await desk.node.apply(FORGET)
    await desk.node.add(pod("web-0"))

    assert await suspects(desk) == 0


async def test_a_fixed_pod_stays_whatever_happens_to_its_record(desk: Desk) -> None:
    await desk.node.apply(ApplyRecord(RECORD))
    await desk.node.add(pod("web-0", fixed="statefulset"))
    await desk.node.apply(FORGET)

    assert await suspects(desk) == 0


async def test_beyond_the_bound_the_oldest_deletion_is_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "DELETIONS_MAX", 1)
    await desk.node.apply(ApplyRecord(RECORD), ApplyRecord(RECORD._replace(name="web-1")))
    await desk.node.add(pod("web-0"))
    await desk.node.apply(FORGET, FORGET._replace(name="web-1"))

    assert await suspects(desk) == 0
