"""A schedule starts executions, and can be paused, triggered, replaced and deleted."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

from core.errors import AlreadyStarted, BadInput, ExecutionNotFound
from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.engine.client.schedules import ListedSchedule, ScheduleHandle, Schedules
from workflows.engine.client.visibility import Filter
from workflows.model import limits
from workflows.model.errors import ApplicationError
from workflows.model.policies import ExecutionStatus
from workflows.schedules.schedule import (
    OverlapPolicy,
    Schedule,
    ScheduleAction,
    ScheduleDescription,
    ScheduleInterval,
    SchedulePolicy,
    ScheduleSpec,
)
from workflows.testing.environment import WorkflowEnvironment

HOUR_S = 3_600
START_MS = 1_700_000_000_000 // (HOUR_S * 1000) * HOUR_S * 1000
"""2023-11-14 22:00 UTC."""

HOURLY = ScheduleSpec((ScheduleInterval(HOUR_S),))
ACTION = ScheduleAction("prune", (0.0,))


@activity.defn()
async def spend(seconds: float) -> None:
    await _environments[-1].spend(seconds)


_environments: list[WorkflowEnvironment] = []
"""The last item is the environment of the current test."""


@workflow.defn(name="prune")
class Prune:
    """Runs for ``seconds``; fails if ``seconds`` is negative."""

    @workflow.run
    async def run(self, seconds: float) -> None:
        if seconds < 0:
            raise ApplicationError("the disk is full")
        options = workflow.ActivityOptions(start_to_close_s=math.inf)
        await workflow.execute_activity(spend, seconds, options=options)


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    async with WorkflowEnvironment(
        Registry([Prune], [spend]), replays=True, start_ms=START_MS
    ) as environment:
        _environments.append(environment)
        yield environment
        _environments.pop()


async def _create(
    env: WorkflowEnvironment,
    overlap: OverlapPolicy = OverlapPolicy.SKIP,
    seconds: float = 0.0,
    **policy: bool,
) -> ScheduleHandle:
    action = ACTION._replace(args=(seconds,))
    schedule = Schedule(action, HOURLY, SchedulePolicy(overlap, **policy))
    handle = await Schedules(env.client).create("nightly", schedule)
    await env.settle()
    return handle


async def _describe(env: WorkflowEnvironment, handle: ScheduleHandle) -> ScheduleDescription:
    await env.settle()
    return await handle.describe()


async def _executions(env: WorkflowEnvironment) -> list[tuple[str, str]]:
    """The scheduled time of day and the status of each execution, sorted by time."""
    heads = [head async for head in env.visibility.heads(Filter("prune"))]
    return sorted((head.workflow_id.partition("T")[2], head.status.value) for head in heads)


async def test_a_schedule_starts_an_execution_at_each_time(env: WorkflowEnvironment) -> None:
    handle = await _create(env)
    await env.advance(2 * HOUR_S)

    description = await _describe(env, handle)
    assert await _executions(env) == [("00:00:00Z", "Completed"), ("23:00:00Z", "Completed")]
    assert description.progress.actions == 2
    assert [result.workflow_id for result in description.progress.recent] == [
        "nightly-2023-11-14T23:00:00Z",
        "nightly-2023-11-15T00:00:00Z",
    ]
    assert description.next_ms[0] == START_MS + 3 * HOUR_S * 1000
    head = (await env.visibility.describe("nightly-2023-11-15T00:00:00Z")).head
    assert head.search_attributes == {
        "ScheduledById": "nightly",
        "ScheduledStartTime": "2023-11-15T00:00:00Z",
    }


async def test_a_schedule_starts_each_execution_if_jitter_exceeds_the_catchup_window(
    env: WorkflowEnvironment,
) -> None:
    policy = SchedulePolicy(catchup_window_s=0.0)
    schedule = Schedule(ACTION, HOURLY._replace(jitter_s=HOUR_S), policy)
    handle = await Schedules(env.client).create("nightly", schedule)
    await env.settle()
    await env.advance(10 * HOUR_S)

    progress = (await _describe(env, handle)).progress
    assert progress.missed_catchup_window == 0
    assert progress.actions >= 9  # the last start may be after the end


@pytest.mark.parametrize(
    ("overlap", "executions"),
    [
        (OverlapPolicy.SKIP, ["23 Completed", "02 Running"]),
        (OverlapPolicy.BUFFER_ONE, ["23 Completed", "00 Running"]),
        (OverlapPolicy.BUFFER_ALL, ["23 Completed", "00 Running"]),
        (OverlapPolicy.CANCEL_OTHER, ["23 Canceled", "00 Canceled", "01 Canceled", "02 Running"]),
        (OverlapPolicy.ALLOW_ALL, ["23 Completed", "00 Running", "01 Running", "02 Running"]),
    ],
)
async def test_the_overlap_policy_decides_which_actions_start_while_another_action_runs(
    env: WorkflowEnvironment, overlap: OverlapPolicy, executions: list[str]
) -> None:
    await _create(env, overlap, seconds=2.5 * HOUR_S)
    await env.advance(4 * HOUR_S)

    assert [f"{time[:2]} {status}" for time, status in await _executions(env)] == sorted(executions)


async def test_a_paused_schedule_starts_an_action_only_when_triggered(
    env: WorkflowEnvironment,
) -> None:
    handle = await _create(env)
    await handle.pause("the disk is moved")
    await env.advance(2 * HOUR_S)
    assert await _executions(env) == []

    await handle.trigger()
    description = await _describe(env, handle)
    assert (description.progress.actions, description.next_ms) == (1, ())
    assert description.progress.note == "the disk is moved"
    await handle.unpause()
    await env.advance(HOUR_S)

    assert (await _describe(env, handle)).progress.actions == 2


async def test_a_failed_action_pauses_a_schedule_with_pause_on_failure(
    env: WorkflowEnvironment,
) -> None:
    handle = await _create(env, seconds=-1.0, pause_on_failure=True)
    await env.advance(3 * HOUR_S)

    progress = (await _describe(env, handle)).progress
    assert (progress.actions, progress.paused) == (1, True)
    assert progress.note.endswith("the disk is full")


async def test_a_pause_skips_the_buffered_starts_of_a_schedule(
    env: WorkflowEnvironment,
) -> None:
    handle = await _create(env, OverlapPolicy.BUFFER_ALL, seconds=2.5 * HOUR_S)
    await env.advance(3 * HOUR_S)
    await handle.pause()
    await env.advance(12 * HOUR_S)

    progress = (await _describe(env, handle)).progress
    assert (progress.actions, progress.skipped_overlap) == (1, 2)


async def test_a_running_action_keeps_its_workflow_id_after_the_schedule_is_replaced(
    env: WorkflowEnvironment,
) -> None:
    handle = await _create(env, seconds=2.5 * HOUR_S)
    await env.advance(HOUR_S)
    await handle.replace(Schedule(ACTION._replace(workflow_id="other"), HOURLY))

    assert (await _describe(env, handle)).running == ("nightly-2023-11-14T23:00:00Z",)


async def test_a_schedule_is_listed_until_the_schedule_is_deleted(env: WorkflowEnvironment) -> None:
    handle = await _create(env)
    schedules = Schedules(env.client)
    daily = Schedule(ACTION, ScheduleSpec(cron=("30 3 * * *",)))
    await schedules.create("daily", daily, paused=True)
    await env.settle()

    assert await schedules.list() == [
        ListedSchedule("daily", "prune", "cron 30 3 * * *", paused=True, next_time=""),
        ListedSchedule(
            "nightly", "prune", "every 3600 s", paused=False, next_time="2023-11-14T23:00:00Z"
        ),
    ]
    await handle.delete()
    await env.settle()
    assert [row.schedule_id for row in await schedules.list()] == ["daily"]
    with pytest.raises(ExecutionNotFound, match="schedule nightly does not exist"):
        await handle.trigger()


async def test_a_running_action_completes_after_the_schedule_is_deleted(
    env: WorkflowEnvironment,
) -> None:
    handle = await _create(env, seconds=600.0)
    await env.advance(HOUR_S)
    await handle.delete()
    await env.advance(600)

    assert await _executions(env) == [("23:00:00Z", "Completed")]


async def test_ensure_keeps_an_equal_schedule_paused_and_replaces_a_different_schedule(
    env: WorkflowEnvironment,
) -> None:
    schedules = Schedules(env.client)
    schedule = Schedule(ACTION, HOURLY)
    handle = await schedules.ensure("nightly", schedule)
    await env.settle()
    await handle.pause()
    await schedules.ensure("nightly", schedule)
    assert (await _describe(env, handle)).progress.paused

    faster = schedule._replace(spec=ScheduleSpec((ScheduleInterval(600),)))
    await schedules.ensure("nightly", faster)
    await handle.unpause()
    await env.advance(HOUR_S)

    description = await _describe(env, handle)
    assert (description.schedule.spec, description.progress.actions) == (faster.spec, 6)


async def test_a_schedule_with_an_existing_id_or_an_invalid_value_is_rejected(
    env: WorkflowEnvironment,
) -> None:
    await _create(env)
    schedules = Schedules(env.client)

    with pytest.raises(AlreadyStarted):
        await schedules.create("nightly", Schedule(ACTION, HOURLY))
    with pytest.raises(BadInput, match="a schedule without times"):
        await schedules.create("other", Schedule(ACTION, ScheduleSpec()))
    with pytest.raises(BadInput, match="is not a valid workflow id"):
        await schedules.create("x" * 240, Schedule(ACTION, HOURLY))
    with pytest.raises(BadInput, match="SCHEDULE_BYTES_MAX"):
        await schedules.create("large", Schedule(ACTION._replace(args=("x" * 40_000,)), HOURLY))
    with pytest.raises(BadInput, match="NOTE_CHARACTERS_MAX"):
        await schedules.handle("nightly").pause("x" * 2_000)


async def test_a_scheduler_with_a_long_history_continues_as_new_when_no_action_runs(
    env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS_SUGGEST", 20)
    handle = await _create(env, OverlapPolicy.BUFFER_ONE, seconds=90 * 60)
    await env.advance(48 * HOUR_S)

    runs = await env.runs("schedule/nightly")
    assert len(runs) > 2
    assert {run.status for run in runs[:-1]} == {ExecutionStatus.CONTINUED_AS_NEW}
    progress = (await _describe(env, handle)).progress
    # An action takes 1.5 h, so 32 actions start in 48 h.
    assert progress.actions == len(await _executions(env)) == 32
