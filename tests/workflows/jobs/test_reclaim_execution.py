"""The execution itself: its rhythm, its signals, its query, its faults, its next run."""

from __future__ import annotations

import pytest

from core.allocation import claim_releases
from core.allocation.releaser import Released, Releaser
from core.domain.reclaim.deadlines import ReclaimDeadline
from core.errors import StoreUnavailable
from core.eventstore.kv import Get
from tests.workflows.jobs.stage import JobStage
from workflows.jobs.reclaim.scan import ScanSettings
from workflows.model.errors import LimitExceeded
from workflows.model.policies import ExecutionStatus

LEAK = "pod shop/{0} uid={0}\ndelete pod shop/{0} how=unseen"


async def test_it_looks_every_interval_and_on_the_signal(stage: JobStage) -> None:
    await stage.begin(ScanSettings(interval_s=60))
    await stage.tick("190s")
    assert stage.facts.asked == 4

    await stage.handle.signal("scan-now")
    assert stage.facts.asked == 5
    await stage.handle.signal("scan-now")
    assert stage.facts.asked == 5, "the gap between looks on demand goes by first"
    await stage.tick("2s")

    assert stage.facts.asked == 6


async def test_a_pod_that_takes_no_more_news_stops_no_look(
    stage: JobStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.script("pod shop/web-0 uid=web-0\ndelete pod shop/web-0 grace=10m")
    await stage.begin()
    assert stage.begun

    async def refuse(_: ReclaimDeadline) -> None:
        raise LimitExceeded("SIGNALS_MAX")

    monkeypatch.setattr(stage._scan, "_begin", refuse)
    await stage.handle.signal("scan-now")
    await stage.tick("2s")

    assert (await stage.status())["looks"] == 2


async def test_new_orders_change_the_rhythm_of_a_wait_that_has_begun(stage: JobStage) -> None:
    await stage.begin(ScanSettings(interval_s=3_600))
    await stage.tick("1m")
    await stage.handle.signal("orders", ScanSettings(interval_s=90))
    await stage.tick("31s")

    assert stage.facts.asked == 2


async def test_status_and_search_attributes_tell_what_was_found(stage: JobStage) -> None:
    await stage.script(f"{LEAK.format('web-0')}\npod shop/alive uid=alive")
    await stage.begin()
    await stage.tick("11s")
    status = await stage.status()

    assert (status["phase"], status["kept"], status["released"]) == ("waiting", 1, 1)
    assert status["samples"] == ["10.6.0.12 of shop/alive: its Pod is living"]
    assert status["last_scan"] == "2026-01-01T12:00:10+00:00"
    assert status["next_scan"] == "2026-01-01T12:10:10+00:00"
    last = [
        each.attributes
        for each in await stage.handle.history()
        if each.event_type == "UpsertWorkflowSearchAttributes"
    ][-1]
    assert "ReclaimReleased" in repr(last)


async def test_a_step_that_fails_blocks_no_other_and_comes_again(
    stage: JobStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = claim_releases.reclaim
    broken = {"shop/web-1"}

    async def reclaim(releaser: Releaser, step: object, cause: object) -> Released:
        if "/".join(step.key) in broken:  # type: ignore[attr-defined]
            raise StoreUnavailable("this one never works")
        return await real(releaser, step, cause)  # type: ignore[arg-type]

    monkeypatch.setattr(claim_releases, "reclaim", reclaim)
    await stage.script("\n".join(LEAK.format(f"web-{number}") for number in range(3)))
    await stage.begin()
    await stage.tick("20s")
    assert await stage.held() == {"10.6.0.12"}
    await stage.tick("5m")
    paused = await stage.status()
    assert (paused["paused"], paused["released"]) == (1, 2)
    assert "this one never works" in str(paused["paused_steps"])
    assert await stage.handle.status() is ExecutionStatus.RUNNING

    broken.clear()
    await stage.tick("11m")
    healed = await stage.status()

    assert await stage.held() == set()
    assert (healed["paused"], healed["paused_steps"], healed["released"]) == (0, [], 3)


async def test_facts_that_cannot_be_had_fail_the_look_alone(stage: JobStage) -> None:
    await stage.script(LEAK.format("web-0"))
    stage.facts.fault = RuntimeError("the API server is away")
    await stage.begin()
    await stage.tick("6m")
    away = await stage.status()
    assert (away["looks"], away["failed_looks"]) == (0, 1)
    assert "the API server is away" in away["fault"]

    stage.facts.fault = None
    await stage.tick("11m")

    assert await stage.held() == set()
    assert (await stage.status())["fault"] == ""


async def test_a_book_that_is_gone_only_costs_another_look(stage: JobStage) -> None:
    await stage.script(LEAK.format("web-0"))
    await stage.begin()
    for lease in list(stage.store._leases):
        await stage.store.revoke_lease(lease)
    await stage.tick("11s")
    assert await stage.held() == {"10.6.0.11"}, "seen once, as far as anybody knows"
    await stage.tick("11s")

    assert await stage.held() == set()


async def test_what_was_seen_goes_over_into_the_next_run(
    stage: JobStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 5)
    await stage.script(LEAK.format("web-0"))
    await stage.begin()
    await stage.tick("11s")

    assert await stage.held() == set()
    assert (await stage.status())["released"] == 1
    assert len(await stage.environment.runs("reclaim")) > 1


async def test_books_are_dropped_when_two_looks_have_gone_by(stage: JobStage) -> None:
    await stage.script(LEAK.format("web-0"))
    await stage.begin()
    await stage.tick("31m")
    agent = await stage.agent("operator")
    room = agent.keys.root + b"job/"
    found = await stage.store.read([Get(room, agent.keys.root + b"job0")])

    assert found.ranges[0].kvs == ()


async def test_a_cancelled_execution_ends_and_frees_nothing_more(stage: JobStage) -> None:
    await stage.script(LEAK.format("web-0"))
    await stage.begin()
    await stage.handle.cancel("enough")
    await stage.tick("1m")

    assert await stage.handle.status() is ExecutionStatus.CANCELED
    assert await stage.held() == {"10.6.0.11"}
