"""The reclaim execution of one Pod.

The script command ``delete pod`` with ``grace`` only begins the deletion. With ``how=lost`` the
DEL is lost; with ``how=done`` the DEL succeeds.
"""

from __future__ import annotations

import pytest

from core.allocation.releaser import Released, Releaser
from core.domain.events import Cause
from core.domain.fixed.fixed_address_owners import MissingOwner, StatefulSetState
from core.domain.reclaim.evidence import OBSERVATION_GAP_S
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import StoreUnavailable
from tests.core.domain.reclaim.scripted_cluster import ObservedPod
from tests.support.cluster_snapshot import ClusterSnapshot
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.jobs.reclaim.pod import CHANGED_SIGNAL
from workflows.model.policies import ExecutionStatus

WEB = "reclaim/shop/web-0/1"
DB = "reclaim/shop/db-1/1"


async def prepare_pod(
    harness: ReclaimJobHarness, settings: ReclaimSettings = ReclaimSettings()
) -> None:
    """Add web-0 with the address 10.6.0.11."""
    harness.settings = settings
    await harness.script("pod shop/web-0 uid=1 node=n3")
    await harness.prepare()


async def report_change(harness: ReclaimJobHarness, line: str) -> None:
    """Change web-0 by a script command, and report the change to the listener."""
    key = ("shop", "web-0")
    last = harness.cluster.pods[key]
    await harness.script(line)
    current = harness.cluster.pods.get(key)
    await harness.report(ObservedPod(current or last, deleted=current is None))
    await harness.environment.settle()


async def test_an_address_is_released_at_once_if_the_del_was_lost(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 how=lost")

    assert await harness.claimed() == set()
    outcome = await harness.outcome(WEB)
    assert outcome.released == ("10.6.0.11",)
    assert outcome.why.startswith("deleted: Pod shop/web-0, UID 1, was deleted (event")
    assert await harness.environment.handle(WEB).event_types() == [
        "WorkflowExecutionStarted",
        "ActivityTaskScheduled",
        "ActivityTaskStarted",
        "ActivityTaskCompleted",
        "WorkflowExecutionCompleted",
    ]


async def test_extra_delay_s_delays_the_release_after_the_deletion(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await report_change(harness, "delete pod shop/web-0 how=lost")
    await harness.tick("19s")
    assert await harness.claimed() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.claimed() == set()


async def test_an_address_is_released_after_twice_the_grace_period_plus_extra_delay_s(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await report_change(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("79s")
    assert await harness.claimed() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.claimed() == set()


async def test_a_pod_whose_del_arrived_starts_no_execution(harness: ReclaimJobHarness) -> None:
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 how=done")

    assert harness.started == {}


async def test_a_reported_deletion_ends_the_wait_for_the_grace_period(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 grace=5m")
    await harness.tick("7s")
    assert await harness.claimed() == {"10.6.0.11"}
    await report_change(harness, "delete pod shop/web-0 how=lost")

    assert await harness.claimed() == set()
    assert len(await harness.environment.runs(WEB)) == 1


async def test_an_execution_releases_nothing_if_a_del_arrives_before_the_deadline(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 grace=30s")
    await harness.script("cni_del shop/web-0")
    await harness.tick("1m")

    assert (await harness.outcome(WEB)).why == "its addresses were released before"


async def test_an_execution_reports_its_release_if_a_signal_arrives_meanwhile(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Releaser.reclaim

    async def release_and_signal(releaser: Releaser, step: ReclaimStep, cause: Cause) -> Released:
        done = await release(releaser, step, cause)
        await harness.environment.client.signal(WEB, CHANGED_SIGNAL, harness.started[WEB])
        return done

    monkeypatch.setattr(Releaser, "reclaim", release_and_signal)
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 how=lost")

    outcome = await harness.outcome(WEB)
    assert outcome.released == ("10.6.0.11",)
    assert outcome.why.startswith("deleted: Pod shop/web-0, UID 1, was deleted (event")
    activities = await harness.environment.handle(WEB).event_types()
    assert activities.count("ActivityTaskCompleted") == 2, "the signal arrived during the release"


async def test_the_next_controller_releases_an_address_only_after_two_own_observations(
    harness: ReclaimJobHarness,
) -> None:
    """The wall clock of the next controller is one second ahead of the first one's."""
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("59s")
    harness.observer = harness.new_observer(ahead_s=1.0)
    await harness.take_settings()
    await harness.tick("1s")
    assert await harness.claimed() == {"10.6.0.11"}
    await harness.tick(f"{OBSERVATION_GAP_S:.0f}s")

    assert await harness.claimed() == set()


@pytest.mark.parametrize("listing", ["empty", "partial", "stale"])
async def test_a_terminating_pod_keeps_its_address_while_the_listing_is_unreliable(
    harness: ReclaimJobHarness, listing: str
) -> None:
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 grace=30s")
    await harness.script(f"listing {listing}")
    await harness.tick("10m")

    assert await harness.claimed() == {"10.6.0.11"}


async def test_a_failing_release_is_left_to_the_scan_after_five_tries(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries_s: list[float] = []

    async def reclaim(releaser: Releaser, step: object, cause: object) -> Released:
        tries_s.append(harness.cluster.now_s)
        raise StoreUnavailable("etcd is away")

    monkeypatch.setattr(Releaser, "reclaim", reclaim)
    await prepare_pod(harness)
    await report_change(harness, "delete pod shop/web-0 how=lost")
    await harness.tick("2m")

    assert [at_s - tries_s[0] for at_s in tries_s] == [0, 5, 10, 15, 20]
    assert await harness.environment.handle(WEB).status() is ExecutionStatus.COMPLETED
    assert "left to the scan after 5 tries" in (await harness.outcome(WEB)).why


def fail_owner_reads(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch, duration_s: float
) -> list[float]:
    """Fail reads of StatefulSets for ``duration_s``. Return the times of all reads, in seconds."""
    reads_s: list[float] = []
    read = ClusterSnapshot.stateful_set
    began_s = harness.cluster.now_s

    def read_or_fail(
        self: ClusterSnapshot, namespace: str, name: str
    ) -> StatefulSetState | MissingOwner:
        reads_s.append(harness.cluster.now_s - began_s)
        if reads_s[-1] < duration_s:
            return MissingOwner(certain=False, why="the API server is away", unanswered=True)
        return read(self, namespace, name)

    monkeypatch.setattr(ClusterSnapshot, "stateful_set", read_or_fail)
    return reads_s


async def prepare_surplus_replica(harness: ReclaimJobHarness) -> None:
    await harness.script(
        """
        statefulset shop/db replicas=2
        pod shop/db-1 uid=1 owner=StatefulSet/db
        statefulset shop/db replicas=1
        """
    )
    await harness.prepare()


async def delete_replica(harness: ReclaimJobHarness) -> None:
    last = harness.cluster.pods["shop", "db-1"]
    await harness.script("delete pod shop/db-1 how=lost")
    await harness.report(ObservedPod(last, deleted=True))
    await harness.environment.settle()


async def test_the_owner_of_a_replica_is_read_again_after_a_failed_read(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare_surplus_replica(harness)
    reads_s = fail_owner_reads(harness, monkeypatch, duration_s=8.0)
    await delete_replica(harness)
    await harness.tick("9s")
    assert await harness.claimed() == {"10.6.0.11"}
    await harness.tick("1s")

    assert await harness.claimed() == set()
    assert max(reads_s) == 10.0
    assert (await harness.outcome(DB)).released == ("10.6.0.11",)


async def test_a_replica_is_left_to_the_scan_after_five_failed_reads_of_the_owner(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare_surplus_replica(harness)
    reads_s = fail_owner_reads(harness, monkeypatch, duration_s=3_600.0)
    await delete_replica(harness)
    await harness.tick("2m")

    assert sorted(set(reads_s)) == [0, 5, 10, 15, 20]
    assert await harness.claimed() == {"10.6.0.11"}
    assert "left to the scan after 5 tries" in (await harness.outcome(DB)).why


async def test_a_newer_pod_of_the_same_name_keeps_its_address(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness, ReclaimSettings(extra_delay_s=20.0))
    await report_change(harness, "delete pod shop/web-0 how=lost")
    await harness.script("pod shop/web-0 uid=2")
    await harness.tick("1m")

    assert (await harness.outcome(WEB)).why == "the endpoint belongs to UID 2 now"
    assert len(await harness.claimed()) == 1


async def test_a_scan_starts_the_execution_of_a_terminating_pod(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script("pod shop/web-0 uid=1 node=n3\ndelete pod shop/web-0 grace=30s")
    await harness.start_scan()
    assert list(harness.started) == [WEB]
    reads = harness.facts.reads
    await harness.tick("1m")

    assert await harness.claimed() == set()
    assert harness.facts.reads == reads + 1, "one read by the execution, and none by a scan"


async def test_a_change_is_dropped_if_the_number_of_deadlines_is_at_the_limit(
    harness: ReclaimJobHarness,
) -> None:
    await prepare_pod(harness, ReclaimSettings(deadlines_max=1))
    await harness.script("pod shop/web-1 uid=2 node=n3")
    for name in ("web-0", "web-1"):
        await harness.script(f"delete pod shop/{name} grace=30s")
        await harness.report(ObservedPod(harness.cluster.pods["shop", name]))
    assert (list(harness.started), harness.listener.dropped) == ([WEB], 1)
    await harness.tick("61s")
    await harness.report(ObservedPod(harness.cluster.pods["shop", "web-1"]))

    assert len(harness.started) == 2, "a deadline that has passed does not count"
