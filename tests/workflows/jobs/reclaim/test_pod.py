"""The execution of one Pod: its waits, its decisions, and when it leaves the Pod to the scan."""

from __future__ import annotations

import pytest

from core.allocation.releaser import Released, Releaser
from core.domain.fixed.owners import MissingOwner, StatefulSetState
from core.domain.reclaim.evidence import OBSERVATION_GAP_S
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import StoreUnavailable
from tests.core.domain.reclaim.scripted_cluster import ObservedPod
from tests.support.cluster_snapshot import ClusterSnapshot
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.model.policies import ExecutionStatus

WEB = "reclaim/shop/web-0/1"
DB = "reclaim/shop/db-1/1"


async def a_pod(harness: ReclaimJobHarness, settings: ReclaimSettings = ReclaimSettings()) -> None:
    """web-0 runs on n3 with 10.6.0.11, and the watch is running."""
    harness.settings = settings
    await harness.script("pod shop/web-0 uid=1 node=n3")
    await harness.prepare()


async def hear(harness: ReclaimJobHarness, line: str) -> None:
    """Change web-0, with a watch event."""
    key = ("shop", "web-0")
    last = harness.cluster.pods[key]
    await harness.script(line)
    there = harness.cluster.pods.get(key)
    await harness.tell(ObservedPod(there or last, deleted=there is None))
    await harness.environment.settle()


async def test_a_deleted_pod_is_free_at_once_though_its_del_was_lost(
    harness: ReclaimJobHarness,
) -> None:
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 how=lost")

    assert await harness.held() == set()
    done = await harness.outcome(WEB)
    assert done.released == ("10.6.0.11",)
    assert done.why.startswith("deleted: Pod shop/web-0, UID 1, was deleted (event")
    assert await harness.environment.handle(WEB).event_types() == [
        "WorkflowExecutionStarted",
        "ActivityTaskScheduled",
        "ActivityTaskStarted",
        "ActivityTaskCompleted",
        "WorkflowExecutionCompleted",
    ]


async def test_the_additional_delay_is_waited_for_after_a_deletion(
    harness: ReclaimJobHarness,
) -> None:
    await a_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await hear(harness, "delete pod shop/web-0 how=lost")
    await harness.tick("19s")
    assert await harness.held() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.held() == set()


async def test_the_additional_delay_comes_after_twice_the_grace_too(
    harness: ReclaimJobHarness,
) -> None:
    await a_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await hear(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("79s")
    assert await harness.held() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.held() == set()


async def test_a_pod_whose_del_arrived_begins_nothing(harness: ReclaimJobHarness) -> None:
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 how=done")

    assert harness.begun == {}


async def test_a_deletion_ends_the_wait_for_a_termination(harness: ReclaimJobHarness) -> None:
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 grace=5m")
    await harness.tick("7s")
    assert await harness.held() == {"10.6.0.11"}
    await hear(harness, "delete pod shop/web-0 how=lost")

    assert await harness.held() == set()
    assert len(await harness.environment.runs(WEB)) == 1


async def test_a_termination_that_ends_well_leaves_an_execution_with_nothing_to_do(
    harness: ReclaimJobHarness,
) -> None:
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 grace=30s")
    await harness.script("cni_del shop/web-0")
    await harness.tick("1m")

    assert (await harness.outcome(WEB)).why == "its addresses were released before"


async def test_an_observer_that_takes_over_waits_for_its_own_second_look(
    harness: ReclaimJobHarness,
) -> None:
    """The clock of the next controller may be ahead, which shortens no deadline."""
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("59s")
    harness.observer = harness.new_observer(ahead_s=1.0)
    await harness.take_settings()
    await harness.tick("1s")
    assert await harness.held() == {"10.6.0.11"}
    await harness.tick(f"{OBSERVATION_GAP_S:.0f}s")

    assert await harness.held() == set()


@pytest.mark.parametrize("listing", ["empty", "partial", "stale"])
async def test_a_termination_is_not_decided_by_a_listing_that_proves_nothing(
    harness: ReclaimJobHarness, listing: str
) -> None:
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 grace=30s")
    await harness.script(f"listing {listing}")
    await harness.tick("10m")

    assert await harness.held() == {"10.6.0.11"}


async def test_a_release_that_fails_is_tried_a_bounded_number_of_times(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def reclaim(releaser: Releaser, step: object, cause: object) -> Released:
        tries.append(harness.cluster.now_s)
        raise StoreUnavailable("etcd is away")

    monkeypatch.setattr(Releaser, "reclaim", reclaim)
    await a_pod(harness)
    await hear(harness, "delete pod shop/web-0 how=lost")
    await harness.tick("2m")

    assert [late - tries[0] for late in tries] == [0, 5, 10, 15, 20]
    assert await harness.environment.handle(WEB).status() is ExecutionStatus.COMPLETED
    assert "left to the scan after 5 tries" in (await harness.outcome(WEB)).why


def no_answers(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch, for_s: float
) -> list[float]:
    """Fail requests for StatefulSets for a while; return the times of requests."""
    asked: list[float] = []
    answered = ClusterSnapshot.stateful_set
    began_s = harness.cluster.now_s

    def ask(self: ClusterSnapshot, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        asked.append(harness.cluster.now_s - began_s)
        if asked[-1] < for_s:
            return MissingOwner(certain=False, why="the API server is away", unanswered=True)
        return answered(self, namespace, name)

    monkeypatch.setattr(ClusterSnapshot, "stateful_set", ask)
    return asked


async def a_surplus_replica(harness: ReclaimJobHarness) -> None:
    """db-1 has 10.6.0.11, and its StatefulSet is scaled down."""
    await harness.script(
        """
        statefulset shop/db replicas=2
        pod shop/db-1 uid=1 owner=StatefulSet/db
        statefulset shop/db replicas=1
        """
    )
    await harness.prepare()


async def delete_replica(harness: ReclaimJobHarness) -> None:
    """Its deletion is reported, and its DEL never comes."""
    last = harness.cluster.pods["shop", "db-1"]
    await harness.script("delete pod shop/db-1 how=lost")
    await harness.tell(ObservedPod(last, deleted=True))
    await harness.environment.settle()


async def test_a_replica_is_asked_about_again_when_its_owner_could_not_be_asked(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_surplus_replica(harness)
    asked = no_answers(harness, monkeypatch, for_s=8.0)
    await delete_replica(harness)
    await harness.tick("9s")
    assert await harness.held() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.held() == set()
    assert max(asked) == 10.0
    assert (await harness.outcome(DB)).released == ("10.6.0.11",)


async def test_an_owner_that_can_never_be_asked_is_left_to_the_scan(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_surplus_replica(harness)
    asked = no_answers(harness, monkeypatch, for_s=3_600.0)
    await delete_replica(harness)
    await harness.tick("2m")

    assert sorted(set(asked)) == [0, 5, 10, 15, 20]
    assert await harness.held() == {"10.6.0.11"}
    assert "left to the scan after 5 tries" in (await harness.outcome(DB)).why


async def test_a_pod_that_got_its_addresses_anew_is_left_alone(harness: ReclaimJobHarness) -> None:
    """Another Pod of the same name: the event of the older one is late."""
    await a_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await hear(harness, "delete pod shop/web-0 how=lost")
    await harness.script("pod shop/web-0 uid=2")
    await harness.tick("1m")

    assert (await harness.outcome(WEB)).why == "the endpoint belongs to UID 2 now"
    assert len(await harness.held()) == 1


async def test_a_scan_begins_the_execution_of_a_pod_whose_grace_runs(
    harness: ReclaimJobHarness,
) -> None:
    """It was terminating when the controller started, so there was no event."""
    await harness.script("pod shop/web-0 uid=1 node=n3\ndelete pod shop/web-0 grace=30s")
    await harness.begin()
    assert list(harness.begun) == [WEB]
    attempts = harness.facts.asked
    await harness.tick("1m")

    assert await harness.held() == set()
    assert harness.facts.asked == attempts + 1, (
        "no second scan for a deadline that an execution keeps"
    )


async def test_without_room_for_a_trace_the_pod_is_left_to_the_scan(
    harness: ReclaimJobHarness,
) -> None:
    await a_pod(harness, ReclaimSettings(deadlines_max=1))
    await harness.script("pod shop/web-1 uid=2 node=n3")
    for name in ("web-0", "web-1"):
        await harness.script(f"delete pod shop/{name} grace=30s")
        await harness.tell(ObservedPod(harness.cluster.pods["shop", name]))
    assert (list(harness.begun), harness.listener.dropped) == ([WEB], 1)
    await harness.tick("61s")
    await harness.tell(ObservedPod(harness.cluster.pods["shop", "web-1"]))

    assert len(harness.begun) == 2, "what is over has made room"
