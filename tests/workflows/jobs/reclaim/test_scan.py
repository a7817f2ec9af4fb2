"""The execution of the reclaim scan."""

from __future__ import annotations

import pytest

from core.allocation.guid_registry import GuidRegistry
from core.allocation.releaser import Released, Releaser
from core.domain.events import Cause
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.sriov.model import VfGuid
from core.errors import StoreUnavailable
from core.eventstore.kv import Get
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.jobs.reclaim.scan import SCAN_NOW, SETTINGS_SIGNAL, ScanSettings
from workflows.model.errors import LimitExceeded
from workflows.model.policies import ExecutionStatus

LEAK = "pod shop/{0} uid={0}\ndelete pod shop/{0} how=unseen"
"""A Pod that is deleted without a DEL and without a watch event."""


async def test_a_scan_runs_after_every_interval_and_after_a_signal(
    harness: ReclaimJobHarness,
) -> None:
    await harness.start_scan(ScanSettings(interval_s=60))
    await harness.tick("190s")
    assert harness.facts.reads == 4, "at 0, 60, 120 and 180 s"

    await harness.handle.signal(SCAN_NOW)
    assert harness.facts.reads == 5
    await harness.handle.signal(SCAN_NOW)
    assert harness.facts.reads == 5, "the pause between two requested scans has not passed"
    await harness.tick("2s")

    assert harness.facts.reads == 6


async def test_a_scan_succeeds_if_the_execution_of_a_pod_rejects_a_signal(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.script("pod shop/web-0 uid=web-0\ndelete pod shop/web-0 grace=10m")
    await harness.start_scan()
    assert harness.started, "an execution waits for the end of the grace period"

    async def reject_signal(_: ReclaimDeadline) -> None:
        raise LimitExceeded("SIGNALS_MAX")

    monkeypatch.setattr(harness._scan, "_start", reject_signal)
    await harness.handle.signal(SCAN_NOW)
    await harness.tick("2s")

    assert (await harness.status())["looks"] == 2, "two scans have succeeded"


async def test_new_settings_change_the_current_wait(
    harness: ReclaimJobHarness,
) -> None:
    await harness.start_scan(ScanSettings(interval_s=3_600))
    await harness.tick("1m")
    await harness.handle.signal(SETTINGS_SIGNAL, ScanSettings(interval_s=90))
    await harness.tick("31s")

    assert harness.facts.reads == 2


async def test_status_and_search_attributes_have_the_results_of_the_scan(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(f"{LEAK.format('web-0')}\npod shop/alive uid=alive")
    await harness.start_scan()
    await harness.tick("11s")
    status = await harness.status()

    assert (status["phase"], status["kept"], status["released"]) == ("waiting", 1, 1)
    assert status["samples"] == ["10.6.0.12 of shop/alive: its Pod is living"]
    assert status["last_scan"] == "2026-01-01T12:00:10+00:00"
    assert status["next_scan"] == "2026-01-01T12:10:10+00:00"
    last_upsert = [
        event.attributes
        for event in await harness.handle.history()
        if event.event_type == "UpsertWorkflowSearchAttributes"
    ][-1]
    assert "ReclaimReleased" in repr(last_upsert)


async def test_a_failed_release_does_not_stop_other_releases_and_is_tried_again(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reclaim_step = Releaser.reclaim
    failing_pods = {"shop/web-1"}

    async def reclaim(releaser: Releaser, step: object, cause: object) -> Released:
        if "/".join(step.key) in failing_pods:  # type: ignore[attr-defined]
            raise StoreUnavailable("it always fails")
        return await reclaim_step(releaser, step, cause)  # type: ignore[arg-type]

    monkeypatch.setattr(Releaser, "reclaim", reclaim)
    await harness.script("\n".join(LEAK.format(f"web-{number}") for number in range(3)))
    await harness.start_scan()
    await harness.tick("20s")
    assert await harness.claimed() == {"10.6.0.12"}, "the address of web-1"
    await harness.tick("5m")
    failed_status = await harness.status()
    # ``paused`` counts the failed releases.
    assert (failed_status["paused"], failed_status["released"]) == (1, 2)
    assert "it always fails" in str(failed_status["paused_steps"])
    assert await harness.handle.status() is ExecutionStatus.RUNNING

    failing_pods.clear()
    await harness.tick("11m")
    recovered_status = await harness.status()

    assert await harness.claimed() == set()
    assert (
        recovered_status["paused"],
        recovered_status["paused_steps"],
        recovered_status["released"],
    ) == (0, [], 3)


async def test_a_scan_fails_without_an_api_server_and_a_later_scan_succeeds(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(LEAK.format("web-0"))
    harness.facts.fault = RuntimeError("the API server is away")
    await harness.start_scan()
    await harness.tick("6m")
    status = await harness.status()
    assert (status["looks"], status["failed_looks"]) == (0, 1), "one failed scan"
    assert "the API server is away" in status["fault"]

    harness.facts.fault = None
    await harness.tick("11m")

    assert await harness.claimed() == set()
    assert (await harness.status())["fault"] == ""


async def test_an_expired_scan_state_delays_the_release_by_one_scan(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(LEAK.format("web-0"))
    await harness.start_scan()
    for lease in list(harness.store._leases):
        await harness.store.revoke_lease(lease)
    await harness.tick("11s")
    # The first observation is lost, so a release needs two more scans.
    assert await harness.claimed() == {"10.6.0.11"}
    await harness.tick("11s")

    assert await harness.claimed() == set()


async def test_continue_as_new_keeps_the_observations(
    harness: ReclaimJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With this limit, the execution continues as new after the first scan.
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 5)
    await harness.script(LEAK.format("web-0"))
    await harness.start_scan()
    await harness.tick("11s")

    assert await harness.claimed() == set()
    assert (await harness.status())["released"] == 1
    assert len(await harness.environment.runs("reclaim")) > 1


async def test_no_scan_state_is_stored_after_the_last_leak_is_released(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(LEAK.format("web-0"))
    await harness.start_scan()
    await harness.tick("31m")
    agent = await harness.agent("operator")
    prefix = agent.keys.root + b"job/"  # scans store their states under this prefix
    stored = await harness.store.read([Get(prefix, agent.keys.root + b"job0")])

    assert stored.ranges[0].kvs == ()


async def test_a_cancelled_execution_ends_without_a_further_release(
    harness: ReclaimJobHarness,
) -> None:
    await harness.script(LEAK.format("web-0"))
    await harness.start_scan()
    await harness.handle.cancel("enough")
    await harness.tick("1m")

    assert await harness.handle.status() is ExecutionStatus.CANCELED
    assert await harness.claimed() == {"10.6.0.11"}


async def test_two_scans_that_do_not_list_a_node_release_its_guids(
    harness: ReclaimJobHarness,
) -> None:
    agents = [await harness.agent(name) for name in ("n1", "n2")]
    for number, agent in enumerate(agents):
        guid = VfGuid(
            f"02:00:00:00:00:00:00:0{number}", "0000:3b:00.0", nic_guid=f"nic-{number}", vf=0
        )
        registry = GuidRegistry(harness.store, agent.keys, agent.writer, agent.name, Cause("agent"))
        assert await registry.assign([guid]) == [], "no GUID is in conflict"
    await harness.script("node n1")
    await harness.start_scan()
    before = set((await agents[0].read_ledger()).guids)

    await harness.tick("11s")
    guids = (await agents[0].read_ledger()).guids

    assert len(before) == 2
    assert {claim.node for claim in guids.values()} == {"n1"}
