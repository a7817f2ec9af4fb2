"""Activity counts a minute's claims, releases and refusals per pool, and events per writer."""

from __future__ import annotations

import pytest

from core.audit.recent_activity import REFUSALS_MAX, WINDOW_S, Activity, PoolActivity
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AllocationRefused,
    Cause,
    Event,
    PoolVerdict,
    Recorded,
    Release,
)
from core.domain.model import Endpoint, Nic

NOW_MS = 1_767_268_800_000
NICS = (
    Nic("eth0", ipv4="10.6.0.1/24", ipv4_pool="lan"),
    Nic("net1", ipv4="10.7.0.1/24", ipv4_pool="storage"),
)
ENDPOINT = Endpoint(
    "shop", "web-0", "u", "node-a", holder="pod/u", owner_kind="Pod", owner_name="web-0", nics=NICS
)
FIRST_NIC, SECOND_NIC = (0,), (1,)


def recorded(event: Event, at_ms: int = NOW_MS) -> Recorded:
    return Recorded(
        position=1,
        index_in_segment=0,
        event_id="id",
        recorded_at_ms=at_ms,
        writer="node-a",
        cause=Cause("test"),
        event=event,
    )


def refusal(*pools: str, times: int = 1, name: str = "web-1") -> AllocationRefused:
    verdicts = tuple(
        PoolVerdict("eth0", 4, pool=pool, accepted=False, rule="full") for pool in pools
    )
    pod_and_nic = ("shop", name, "u", "node-a", "pod/u", "eth0")
    return AllocationRefused(*pod_and_nic, "used-out", "no address", verdicts=verdicts, times=times)


def test_claims_and_releases_count_for_the_pools_of_their_addresses() -> None:
    activity = Activity()
    release = Release("10.6.0.1", "lan", holder="pod/u", claim_revision=1)
    released = AddressesReleased("shop", "web-0", releases=(release,), nics=(), reason="deleted")

    activity.note(
        [recorded(AddressesClaimed(ENDPOINT, new_nics=SECOND_NIC)), recorded(released)], NOW_MS
    )

    minute = activity.minute(NOW_MS)
    assert minute.of_pool("storage") == PoolActivity(claimed=1, released=0, refused=0)
    assert minute.of_pool("lan") == PoolActivity(claimed=0, released=1, refused=0)
    assert minute.event_count("node-a") == 2


def test_an_event_that_counts_three_refusals_adds_three_to_each_candidate_pool() -> None:
    """A refusal without a candidate pool counts for the pool ""."""
    activity = Activity()

    activity.note(
        [recorded(refusal("lan", "lan", "storage", times=3)), recorded(refusal())], NOW_MS
    )

    minute = activity.minute(NOW_MS)
    assert [minute.of_pool(name).refused for name in ("lan", "storage", "")] == [3, 3, 1]


def test_events_older_than_a_minute_do_not_count() -> None:
    activity = Activity()
    claim = AddressesClaimed(ENDPOINT, new_nics=FIRST_NIC)

    activity.note(
        [recorded(claim, NOW_MS - WINDOW_S * 1000), recorded(claim, NOW_MS - 1000)], NOW_MS
    )

    assert activity.minute(NOW_MS).of_pool("lan").claimed == 1
    assert activity.minute(NOW_MS + WINDOW_S * 1000).of_pool("lan").claimed == 0


@pytest.mark.parametrize("ahead_ms", [30_000, 3_600_000])
def test_an_event_from_the_future_counts_as_now(ahead_ms: int) -> None:
    activity = Activity()
    claim = AddressesClaimed(ENDPOINT, new_nics=FIRST_NIC)

    activity.note([recorded(claim, NOW_MS + ahead_ms)], NOW_MS)

    assert activity.minute(NOW_MS).of_pool("lan").claimed == 1
    assert activity.minute(NOW_MS + WINDOW_S * 1000).of_pool("lan").claimed == 0


def test_a_writer_whose_clock_is_ahead_hides_no_events() -> None:
    activity = Activity()
    claim = AddressesClaimed(ENDPOINT, new_nics=FIRST_NIC)

    activity.note([recorded(claim), recorded(claim, NOW_MS + 3_600_000)], NOW_MS)
    activity.note([recorded(claim, NOW_MS + 1000)], NOW_MS + 1000)

    assert activity.minute(NOW_MS + 1000).of_pool("lan").claimed == 3


def test_the_oldest_refusal_is_dropped_beyond_the_limit() -> None:
    activity = Activity()

    refusals = [recorded(refusal(name=f"web-{number}")) for number in range(REFUSALS_MAX + 1)]
    activity.note(refusals, NOW_MS)

    assert [activity.refusals[0].pod, len(activity.refusals)] == ["shop/web-1", REFUSALS_MAX]
