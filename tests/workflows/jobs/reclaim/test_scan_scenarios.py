"""Which addresses the scan releases in scripted clusters, and when.

The script command ``delete pod`` with ``how=lost`` sends no DEL, with ``how=unseen`` also no watch
event. With ``grace`` the deletion only begins. The Pods get 10.6.0.11, 10.6.0.12, and so on.
"""

from __future__ import annotations

import pytest

from core.domain.reclaim.settings import ReclaimSettings
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.jobs.reclaim.scan import ScanSettings


async def test_the_second_scan_releases_the_address_of_a_deleted_pod(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(
        """
        pod shop/web-0 uid=1
        pod shop/web-1 uid=2
        delete pod shop/web-1 how=lost
        """
    )
    await harness.start_scan()
    first_status = await harness.status()
    assert await harness.claimed() == {"10.6.0.11", "10.6.0.12"}

    await harness.tick("11s")
    second_status = await harness.status()

    assert await harness.claimed() == {"10.6.0.11"}
    # ``looks`` counts scans; ``suspects`` counts Pods that were observed as gone only once.
    assert (first_status["looks"], first_status["suspects"], first_status["released"]) == (1, 1, 0)
    assert (second_status["looks"], second_status["suspects"], second_status["released"]) == (
        2,
        0,
        1,
    )


async def test_a_terminating_pod_on_a_lost_node_loses_its_address_unless_the_address_is_fixed(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(
        """
        statefulset shop/db replicas=1
        pod shop/web-0 uid=1 node=n3
        pod shop/db-0 uid=2 node=n3 owner=StatefulSet/db
        pod shop/safe uid=3 node=n1
        lose node n3
        """
    )
    await harness.start_scan()
    await harness.tick("10m")
    assert len(await harness.claimed()) == 3

    await harness.script("delete pod shop/web-0 grace=30s\ndelete pod shop/db-0 grace=30s")
    await harness.tick("21m")

    assert await harness.claimed() == {"10.6.0.12", "10.6.0.13"}  # db-0 has a fixed address


async def test_a_replica_that_was_scaled_away_loses_its_address(harness: ReclaimJobHarness) -> None:
    await harness.script(
        """
        statefulset shop/db replicas=2
        pod shop/db-0 uid=1 owner=StatefulSet/db
        pod shop/db-1 uid=2 owner=StatefulSet/db
        delete pod shop/db-1 how=unseen
        """
    )
    await harness.start_scan()
    await harness.tick("30m")
    assert await harness.claimed() == {"10.6.0.11", "10.6.0.12"}

    await harness.script("statefulset shop/db replicas=1")
    await harness.tick("11m")

    assert await harness.claimed() == {"10.6.0.11"}


@pytest.mark.parametrize("listing", ["empty", "partial", "stale"])
async def test_no_address_is_released_while_the_listing_is_unreliable(
    harness: ReclaimJobHarness, listing: str
) -> None:
    await harness.script(
        f"""
        pod shop/web-0 uid=1
        pod shop/web-1 uid=2
        delete pod shop/web-1 how=unseen
        listing {listing}
        """
    )
    await harness.start_scan()
    await harness.tick("1h")
    assert await harness.claimed() == {"10.6.0.11", "10.6.0.12"}
    assert (await harness.status())["looks"] == 7, "a scan at the start and every ten minutes"

    await harness.script("listing good")
    await harness.tick("11m")

    assert await harness.claimed() == {"10.6.0.11"}


async def test_a_pod_that_is_listed_again_between_two_scans_keeps_its_address(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script("pod shop/web-0 uid=1\ndelete pod shop/web-0 how=unseen")
    await harness.start_scan()
    assert (await harness.status())["suspects"] == 1

    await harness.script("pod shop/web-0 uid=1 add=no ips=10.6.0.11")
    await harness.tick("1h")

    assert await harness.claimed() == {"10.6.0.11"}


async def test_leaks_are_released_in_chunks_of_a_hundred(harness: ReclaimJobHarness) -> None:
    await harness.script("pool more 10.6.1.1-10.6.2.200")
    for number in range(250):
        await harness.script(
            f"pod shop/web-{number} uid={number}\ndelete pod shop/web-{number} how=unseen"
        )
    await harness.script("pod shop/alive uid=alive")
    await harness.start_scan()
    await harness.tick("11s")

    assert len(await harness.claimed()) == 1
    assert (await harness.status())["released"] == 250
    scans, chunks = 2, 3
    activities = (await harness.handle.event_types()).count("ActivityTaskScheduled")
    assert activities == scans + chunks


async def test_a_lost_node_keeps_its_addresses_if_on_not_ready_node_is_off(
    harness: ReclaimJobHarness,
) -> None:
    harness.settings = ReclaimSettings(on_not_ready_node=False)
    await harness.script(
        """
        pod shop/web-0 uid=1 node=n3
        lose node n3
        delete pod shop/web-0 grace=30s
        """
    )
    await harness.start_scan(ScanSettings(interval_s=60))
    await harness.tick("10m")

    assert await harness.claimed() == {"10.6.0.11"}
