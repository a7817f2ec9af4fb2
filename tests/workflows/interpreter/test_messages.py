"""Signals, queries and updates with hand-written histories.

``TimerFired(1)`` is the end of the first timer that the code has started.
"""

from __future__ import annotations

import pytest

from tests.workflows.interpreter.script import Script
from workflows.api import workflow
from workflows.model import events as ev
from workflows.model.commands import UpdateRequest
from workflows.model.errors import ApplicationError, QueryError, UnhandledError


@workflow.defn()
class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        self.notes.append("run")
        await workflow.sleep(60)
        workflow.set_query_handler("late", lambda: self.notes)
        workflow.set_signal_handler("late", self.notes.append)
        await workflow.sleep(60)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.notes

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.signal
    async def slow(self) -> None:
        await workflow.sleep(300)
        self.notes.append("slow")

    @workflow.signal
    def refuse(self) -> None:
        raise ApplicationError("enough", type="Refused")

    @workflow.signal
    def signal_with_bug(self) -> None:
        raise ZeroDivisionError

    @workflow.query
    def all(self) -> list[str]:
        return self.notes

    @workflow.query
    def draw(self) -> float:
        return workflow.random().random()

    @workflow.query
    async def wait(self) -> None:
        """Invalid: a query cannot be ``async``."""

    @workflow.query
    def query_with_bug(self) -> None:
        raise ZeroDivisionError("zero")

    @workflow.update
    def edit(self, text: str) -> int:
        if text == "bad":
            raise ApplicationError("bad text", type="Bad")
        self.notes.append(text)
        return len(self.notes)

    @workflow.update
    def invalid(self) -> None:
        """An update whose validator changes the run, which is invalid."""

    @workflow.validator("invalid")
    def change(self) -> None:
        workflow.upsert_search_attributes({"changed": True})


def signal(name: str, *args: object) -> ev.WorkflowExecutionSignaled:
    return ev.WorkflowExecutionSignaled(name, args)


def test_a_signal_in_the_first_task_is_handled_before_the_run_function() -> None:
    script = Script(Notes)
    script.task(signal("note", "first"))

    assert script.interpreter.query("all") == ["first", "run"]


def test_a_signal_is_kept_until_its_handler_is_set() -> None:
    script = Script(Notes)
    script.task(signal("late", "a"), signal("late", "b"))
    assert script.interpreter.query("all") == ["run"]

    script.task(ev.TimerFired(1))
    assert script.interpreter.query("all") == ["run", "a", "b"]
    assert script.replayed().query("all") == ["run", "a", "b"]


def test_signals_are_handled_before_the_events_that_resume_waiting_code() -> None:
    script = Script(Notes)
    script.task()
    script.task(ev.TimerFired(1))
    (done,) = script.task(ev.TimerFired(2), signal("note", "in time"))

    assert isinstance(done, ev.WorkflowExecutionCompleted)
    assert done.result == ["run", "in time"]


def test_a_run_can_wait_until_its_handlers_finish() -> None:
    script = Script(Notes)
    script.task(signal("slow"))  # the handler starts timer 1, then the run starts timer 2
    script.task(ev.TimerFired(2))
    assert script.task(ev.TimerFired(3)) == ()

    (done,) = script.task(ev.TimerFired(1))
    assert isinstance(done, ev.WorkflowExecutionCompleted)
    assert done.result == ["run", "slow"]


def test_an_application_error_in_a_signal_handler_fails_the_run() -> None:
    script = Script(Notes)
    commands = script.task(signal("refuse"))

    assert isinstance(commands[-1], ev.WorkflowExecutionFailed)
    assert commands[-1].failure.type == "Refused"


def test_no_command_is_issued_after_a_handler_has_ended_the_run() -> None:
    script = Script(Notes)
    script.task()
    commands = script.task(
        signal("refuse"), signal("note", "late"), ev.WorkflowExecutionCancelRequested()
    )

    assert [type(command) for command in commands] == [ev.WorkflowExecutionFailed]
    script.replayed()


def test_a_bug_in_a_signal_handler_fails_the_task() -> None:
    script = Script(Notes)
    with pytest.raises(UnhandledError, match="ZeroDivisionError"):
        script.task(signal("signal_with_bug"))


def test_a_signal_whose_arguments_do_not_fit_is_ignored() -> None:
    script = Script(Notes)
    script.task(signal("note", 7), signal("note"), signal("note", "x", "y"))

    assert script.interpreter.query("all") == ["run"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("draw", "may only read"),
        ("wait", "async"),
        ("query_with_bug", "zero"),
        ("nothing", "this workflow has: all, draw"),
    ],
)
def test_a_query_error_names_the_reason(name: str, message: str) -> None:
    script = Script(Notes)
    script.task()
    with pytest.raises(QueryError, match=message):
        script.interpreter.query(name)

    assert script.interpreter.query("all") == ["run"]


def test_an_accepted_update_is_recorded_with_its_result() -> None:
    script = Script(Notes)
    commands = script.task(updates=(UpdateRequest("u1", "edit", ("text",)),))

    assert commands[-2:] == (
        ev.WorkflowExecutionUpdateAccepted("u1", "edit", ("text",)),
        ev.WorkflowExecutionUpdateCompleted("u1", 2),
    )
    assert script.replayed().query("all") == ["run", "text"]


def test_an_update_whose_handler_fails_is_completed_with_the_failure() -> None:
    script = Script(Notes)
    done = script.task(updates=(UpdateRequest("u1", "edit", ("bad",)),))[-1]

    assert isinstance(done, ev.WorkflowExecutionUpdateCompleted)
    assert done.failure is not None
    assert done.failure.type == "Bad"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (UpdateRequest("u1", "edit", (1,)), "does not fit"),
        (UpdateRequest("u1", "invalid"), "may only read"),
        (UpdateRequest("u1", "unknown"), "no update unknown"),
    ],
)
def test_an_invalid_update_is_rejected_with_the_reason(
    request_: UpdateRequest, message: str
) -> None:
    script = Script(Notes)
    decision = script.decide(updates=(request_,))

    assert message in decision.rejections[0].failure.message
    assert [type(command).__name__ for command in decision.commands] == ["TimerStarted"]


def test_an_update_of_a_run_that_ends_is_rejected() -> None:
    script = Script(Notes)
    script.task()
    script.task(ev.TimerFired(1))
    decision = script.decide(ev.TimerFired(2), updates=(UpdateRequest("u1", "edit", ("late",)),))

    assert decision.closed
    assert decision.rejections[0].failure.type == "WorkflowClosed"


def test_an_interpreter_lists_awaited_futures_and_query_names() -> None:
    script = Script(Notes)
    script.decide(signal("slow"))

    assert script.interpreter.waiting_for == ("signal slow: timer 300 s", "Notes: timer 60 s")
    assert script.interpreter.queries == ("all", "draw", "query_with_bug", "wait")
