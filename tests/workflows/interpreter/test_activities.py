"""Activities in workflow code: results, failures, and the three types of cancellation.

Activities and timers are each numbered from 1; the number is the first argument of an event.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.workflows.interpreter.script import Script, timer
from workflows.api import activity, workflow
from workflows.model import events as ev
from workflows.model.errors import ApplicationError, UnhandledError, WorkflowError
from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import CancellationType, RetryState, TimeoutType

QUICK = workflow.ActivityOptions(start_to_close_s=5)


class Address(NamedTuple):
    text: str
    family: int


@activity.defn()
async def claim(pool: str) -> Address:
    return Address(pool, 4)


@workflow.defn()
class Claiming:
    @workflow.run
    async def run(self) -> str:
        try:
            address = await workflow.execute_activity(claim, "pool", options=QUICK)
        except workflow.ActivityError as error:
            cause = error.__cause__
            return f"{error.type} {error.retry_state} {cause!r} {type(cause).__name__}"
        return f"{address.text}/{address.family}"


def result_of(*commands: object) -> object:
    (done,) = commands
    assert isinstance(done, ev.WorkflowExecutionCompleted)
    return done.result


def test_a_result_has_the_return_type_of_the_activity() -> None:
    script = Script(Claiming)
    (scheduled,) = script.task()

    assert isinstance(scheduled, ev.ActivityTaskScheduled)
    assert (scheduled.activity_type, scheduled.args) == ("claim", ("pool",))
    done = ev.ActivityTaskCompleted(1, ["10.6.0.1", 4])
    assert result_of(*script.task(ev.ActivityTaskStarted(1), done)) == "10.6.0.1/4"


def test_a_failed_activity_raises_an_activity_error_whose_cause_is_the_failure() -> None:
    script = Script(Claiming)
    script.task()
    failure = Failure(FailureKind.APPLICATION, "full", "PoolFull")

    text = result_of(*script.task(ev.ActivityTaskFailed(1, failure)))

    assert text == "claim NonRetryableFailure ApplicationError('full') ApplicationError"


def test_the_cause_of_a_timed_out_activity_names_the_timeout() -> None:
    script = Script(Claiming)
    script.task()
    failure = Failure(FailureKind.APPLICATION, "down", "OSError")
    event = ev.ActivityTaskTimedOut(1, TimeoutType.SCHEDULE_TO_CLOSE, RetryState.TIMEOUT, failure)

    assert "TimeoutError('ScheduleToClose timeout')" in str(result_of(*script.task(event)))


@workflow.defn()
class Working:
    @workflow.run
    async def run(self, options: workflow.ActivityOptions) -> None:
        await workflow.execute_activity("work", options=options)


def test_an_activity_without_a_timeout_is_rejected() -> None:
    script = Script(Working, workflow.ActivityOptions())

    with pytest.raises(UnhandledError, match="start_to_close_s or schedule_to_close_s"):
        script.task()


@pytest.mark.parametrize("pauses", [None, False, True])
def test_a_retry_policy_pauses_only_if_the_code_requests_the_pause(pauses: bool | None) -> None:
    policy = workflow.RetryPolicy(maximum_attempts=3, pause_when_exhausted=pauses)
    script = Script(Working, workflow.ActivityOptions(start_to_close_s=1.0, retry=policy))

    (scheduled,) = script.task()

    assert isinstance(scheduled, ev.ActivityTaskScheduled)
    assert scheduled.retry_policy.pauses is (pauses is True)


def test_retry_policies_of_older_events_pause_after_the_last_attempt() -> None:
    # None: an older event without ``pause_when_exhausted``. Newer events record false instead.
    assert workflow.RetryPolicy(maximum_attempts=3).pauses


def test_workflow_and_activity_functions_raise_outside_their_code() -> None:
    with pytest.raises(WorkflowError, match="workflow code only"):
        workflow.now()
    with pytest.raises(WorkflowError, match="called outside an activity"):
        activity.info()


@workflow.defn()
class Cancelling:
    @workflow.run
    async def run(self, kind: CancellationType, pause_s: float) -> str:
        options = QUICK._replace(cancellation=kind)
        future: workflow.Future[int] = workflow.start_activity("work", options=options)
        await timer(pause_s)
        future.cancel()
        try:
            return f"result {await future}"
        except workflow.CancelledError:
            return "cancelled"


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        (
            CancellationType.TRY_CANCEL,
            ["ActivityTaskCancelRequested", "WorkflowExecutionCompleted"],
        ),
        (CancellationType.WAIT_CANCELLATION_COMPLETED, ["ActivityTaskCancelRequested"]),
        (CancellationType.ABANDON, ["WorkflowExecutionCompleted"]),
    ],
)
def test_each_cancellation_type_requests_and_waits_as_documented(
    kind: CancellationType, commands: list[str]
) -> None:
    script = Script(Cancelling, kind, 1)
    script.task()

    assert [type(command).__name__ for command in script.task(ev.TimerFired(1))] == commands


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (ev.ActivityTaskCanceled(1), "cancelled"),
        (ev.ActivityTaskCompleted(1, 7), "result 7"),
    ],
)
def test_wait_cancellation_completed_returns_the_outcome_of_the_activity(
    outcome: ev.Attributes, result: str
) -> None:
    script = Script(Cancelling, CancellationType.WAIT_CANCELLATION_COMPLETED, 1)
    script.task()
    script.task(ev.TimerFired(1))

    assert result_of(*script.task(outcome)) == result


def test_an_activity_started_and_cancelled_in_one_task_is_not_scheduled() -> None:
    script = Script(Cancelling, CancellationType.TRY_CANCEL, 0)

    (done,) = script.task()

    assert isinstance(done, ev.WorkflowExecutionCompleted)
    assert script.replayed().closed


def test_the_outcome_of_an_abandoned_activity_is_ignored() -> None:
    @workflow.defn()
    class Abandoning:
        @workflow.run
        async def run(self) -> None:
            future: workflow.Future[int] = workflow.start_activity("work", options=QUICK)
            await timer(1)
            future.cancel()
            await timer(9)

    script = Script(Abandoning)
    script.task()
    script.task(ev.TimerFired(1))

    assert script.task(ev.ActivityTaskCanceled(1)) == ()
    assert isinstance(script.task(ev.TimerFired(2))[0], ev.WorkflowExecutionCompleted)


def test_a_result_of_a_wrong_type_fails_only_the_task() -> None:
    script = Script(Claiming)
    script.task()
    with pytest.raises(WorkflowError, match="does not fit"):
        script.task(ev.ActivityTaskCompleted(1, "no address"))


def test_an_application_error_keeps_its_type_details_and_retry_delay() -> None:
    error = ApplicationError("later", 1, type="Busy", next_retry_delay_s=3)

    assert (error.type, error.details, error.next_retry_delay_s) == ("Busy", (1,), 3)
    assert ApplicationError("x").type == "ApplicationError"
