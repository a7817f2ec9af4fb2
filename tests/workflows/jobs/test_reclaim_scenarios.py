"""Scripted clusters under the workflow: what is released, when, and what never is."""

from __future__ import annotations

import pytest

from core.domain.reclaim.settings import ReclaimSettings
from tests.workflows.jobs.stage import JobStage
from workflows.jobs.reclaim.scan import ScanSettings


async def test_a_pod_deleted_with_a_lost_del_is_released_after_the_second_look(
    stage: JobStage,
) -> None:
    await stage.script(
        """
        pod shop/web-0 uid=1
        pod shop/web-1 uid=2
        delete pod shop/web-1 how=lost
        """
    )
    await stage.begin()
    once = await stage.status()
    assert await stage.held() == {"10.6.0.11", "10.6.0.12"}

    await stage.tick("11s")
    twice = await stage.status()

    assert await stage.held() == {"10.6.0.11"}
    assert (once["looks"], once["suspects"], once["released"]) == (1, 1, 0)
    assert (twice["looks"], twice["suspects"], twice["released"]) == (2, 0, 1)


async def test_a_lost_node_keeps_living_pods_and_wanted_replicas_and_frees_stuck_ones(
    stage: JobStage,
) -> None:
    await stage.script(
        """
        statefulset shop/db replicas=1
        pod shop/web-0 uid=1 node=n3
        pod shop/db-0 uid=2 node=n3 owner=StatefulSet/db
        pod shop/safe uid=3 node=n1
        lose node n3
        """
    )
    await stage.begin()
    await stage.tick("10m")
    assert len(await stage.held()) == 3

    await stage.script("delete pod shop/web-0 grace=30s\ndelete pod shop/db-0 grace=30s")
    await stage.tick("21m")

    assert await stage.held() == {"10.6.0.12", "10.6.0.13"}


async def test_a_replica_that_is_not_wanted_any_more_leaves(stage: JobStage) -> None:
    await stage.script(
        """
        statefulset shop/db replicas=2
        pod shop/db-0 uid=1 owner=StatefulSet/db
        pod shop/db-1 uid=2 owner=StatefulSet/db
        delete pod shop/db-1 how=unseen
        """
    )
    await stage.begin()
    await stage.tick("30m")
    assert await stage.held() == {"10.6.0.11", "10.6.0.12"}

    await stage.script("statefulset shop/db replicas=1")
    await stage.tick("11m")

    assert await stage.held() == {"10.6.0.11"}


@pytest.mark.parametrize("listing", ["empty", "partial", "stale"])
async def test_a_listing_that_proves_nothing_frees_nothing_however_often(
    stage: JobStage, listing: str
) -> None:
    await stage.script(
        f"""
        pod shop/web-0 uid=1
        pod shop/web-1 uid=2
        delete pod shop/web-1 how=unseen
        listing {listing}
        """
    )
    await stage.begin()
    await stage.tick("1h")
    assert await stage.held() == {"10.6.0.11", "10.6.0.12"}
    assert (await stage.status())["looks"] == 7

    await stage.script("listing good")
    await stage.tick("11m")

    assert await stage.held() == {"10.6.0.11"}


async def test_a_pod_that_comes_back_between_two_looks_keeps_its_address(stage: JobStage) -> None:
    await stage.script("pod shop/web-0 uid=1\ndelete pod shop/web-0 how=unseen")
    await stage.begin()
    assert (await stage.status())["suspects"] == 1

    await stage.script("pod shop/web-0 uid=1 add=no ips=10.6.0.11")
    await stage.tick("1h")

    assert await stage.held() == {"10.6.0.11"}


async def test_many_leaks_are_released_in_chunks(stage: JobStage) -> None:
    await stage.script("pool more 10.6.1.1-10.6.2.200")
    for number in range(250):
        await stage.script(
            f"pod shop/web-{number} uid={number}\ndelete pod shop/web-{number} how=unseen"
        )
    await stage.script("pod shop/alive uid=alive")
    await stage.begin()
    await stage.tick("11s")

    assert len(await stage.held()) == 1
    assert (await stage.status())["released"] == 250
    assert (await stage.handle.event_types()).count("ActivityTaskScheduled") == 2 + 3


async def test_switched_off_rules_release_nothing(stage: JobStage) -> None:
    stage.settings = ReclaimSettings(on_not_ready_node=False)
    await stage.script(
        """
        pod shop/web-0 uid=1 node=n3
        lose node n3
        delete pod shop/web-0 grace=30s
        """
    )
    await stage.begin(ScanSettings(interval_s=60))
    await stage.tick("10m")

    assert await stage.held() == {"10.6.0.11"}
