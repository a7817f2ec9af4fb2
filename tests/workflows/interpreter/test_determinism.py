"""Non-deterministic calls are rejected, and code that differs from its history is reported.

A turn is the execution of workflow code up to its next ``await``.
"""

from __future__ import annotations

import asyncio
import dis
import gc
import queue
import random
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from time import time as wall_clock
from types import CodeType

import pytest

from tests.workflows.interpreter.script import START_MS, Script, timer
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.api.forbidden_calls import FORBIDDEN_CALLS
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model.errors import (
    ForbiddenCallError,
    HistoryError,
    NonDeterminismError,
    UnhandledError,
)


def workflow_of(body: Callable[[], Awaitable[object]]) -> type:
    @workflow.defn(name="Body")
    class Body:
        @workflow.run
        async def run(self) -> object:
            return await body()

    return Body


def function_of(module: object, name: str) -> Callable[..., object]:
    """Look up a function so that the search at registration does not find the call."""
    function = getattr(module, name)
    assert callable(function)
    return function  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "name"),
    [(each.owner, name) for each in FORBIDDEN_CALLS for name in each.names if name != "__init__"],
)
def test_a_forbidden_call_fails_the_task_even_if_code_swallows_the_error(
    module: object, name: str
) -> None:
    async def body() -> object:
        try:
            function_of(module, name)()
        except Exception:  # noqa: BLE001 - the point of the test
            return "swallowed"
        return ""

    with pytest.raises(ForbiddenCallError, match=f"workflow code may not call .*{name}: use"):
        Script(workflow_of(body)).task()


def test_code_outside_workflows_may_use_clock_and_randomness() -> None:
    async def body() -> object:
        await timer(1)
        return None

    Script(workflow_of(body)).task()

    assert time.time() + random.random() > 0
    assert time.time.__module__ == "time"


async def test_the_guard_stays_installed_until_the_next_iteration_of_the_event_loop() -> None:
    async def idle() -> object:
        return None

    async def forbidden() -> object:
        return function_of(time, "time")()

    real = time.time
    Script(workflow_of(idle)).task()
    guarded_time = time.time
    with pytest.raises(ForbiddenCallError, match=r"may not call time\.time"):
        Script(workflow_of(forbidden)).task()

    assert time.time is guarded_time
    assert time.time() > 0, "the guard rejects a call from outside workflow code"
    assert gc.isenabled()
    await asyncio.sleep(0)
    assert time.time is real


def test_the_guard_works_after_an_event_loop_was_closed_early() -> None:
    async def idle() -> object:
        return None

    async def forbidden() -> object:
        return function_of(time, "time")()

    real = time.time
    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.call_soon(Script(workflow_of(idle)).task)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        with pytest.raises(ForbiddenCallError, match=r"may not call time\.time"):
            Script(workflow_of(forbidden)).task()
        assert time.time is real


def test_workflow_code_cannot_open_a_file() -> None:
    async def body() -> object:
        with open("anything", encoding="utf-8") as file:  # noqa: PTH123 - the point of the test
            return file.read()

    with pytest.raises(ForbiddenCallError, match=r"builtins\.open.*an activity"):
        Script(workflow_of(body)).task()


def test_standard_library_functions_that_do_io_or_wait_fail_in_workflow_code() -> None:
    calls: list[Callable[[], object]] = [
        lambda: Path("anything").read_text(encoding="utf-8"),
        lambda: list(Path().iterdir()),
        lambda: subprocess.run(["true"], check=False),
        lambda: socket.socket(socket.AF_UNIX),
        lambda: threading.Event().wait(0.01),
        lambda: queue.Queue[int]().get(timeout=0.01),
        lambda: Future[int]().result(0.01),
        lambda: random.SystemRandom().randint(1, 6),
    ]
    for call in calls:

        async def body(call: Callable[[], object] = call) -> object:
            return call()

        with pytest.raises(ForbiddenCallError):
            Script(workflow_of(body)).task()


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_finalizers_may_read_the_clock_during_workflow_code(in_a_loop: bool) -> None:
    class CyclicObject:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            try:
                finalized.append(time.time())
            except ForbiddenCallError:
                failed.append(self)

    async def body() -> object:
        CyclicObject()
        return [[number] for number in range(100)]

    async def task() -> None:
        script.task()

    finalized: list[float] = []
    failed: list[object] = []
    before = gc.get_threshold()
    script = Script(workflow_of(body))
    gc.set_threshold(1, 1, 1)
    try:
        if in_a_loop:
            asyncio.run(task())
        else:
            script.task()
    finally:
        gc.set_threshold(*before)
    gc.collect()

    assert finalized
    assert not failed
    assert gc.isenabled()


def test_registration_finds_a_clock_imported_by_name() -> None:
    @workflow.defn()
    class ByName:
        @workflow.run
        async def run(self) -> float:
            return wall_clock()

    with pytest.raises(ForbiddenCallError, match=r"run calls time\.time: use workflow\.now"):
        Registry([ByName])


def helper() -> str:
    return str(datetime.now(tz=UTC))


def test_registration_finds_a_clock_in_a_helper_of_the_module() -> None:
    @workflow.defn()
    class ByHelper:
        @workflow.run
        async def run(self) -> str:
            return helper()

    with pytest.raises(ForbiddenCallError, match=r"helper calls datetime\.now"):
        Registry([ByHelper])


def merge_steps(monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], merged: str) -> None:
    """Make ``dis`` show a pair of instructions as one, as newer versions of Python do."""
    steps_of = dis.get_instructions

    def steps_with_merged_pairs(code: CodeType) -> Iterator[dis.Instruction]:
        steps: list[dis.Instruction] = []
        for step in steps_of(code):
            if steps and (steps[-1].opname, step.opname) == pair:
                names = steps[-1].argval, step.argval
                steps[-1] = steps[-1]._replace(opname=merged, argval=names)
            else:
                steps.append(step)
        return iter(steps)

    monkeypatch.setattr(dis, "get_instructions", steps_with_merged_pairs)


@pytest.mark.parametrize(
    ("pair", "merged"),
    [
        (("LOAD_FAST", "LOAD_FAST"), "LOAD_FAST_LOAD_FAST"),
        (("LOAD_FAST", "LOAD_FAST"), "LOAD_FAST_BORROW_LOAD_FAST_BORROW"),
        (("STORE_FAST", "LOAD_FAST"), "STORE_FAST_LOAD_FAST"),
    ],
)
def test_registration_finds_a_clock_in_merged_instructions(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], merged: str
) -> None:
    @workflow.defn()
    class ByLocalName:
        @workflow.run
        async def run(self, earliest: datetime) -> datetime:
            import datetime as dt

            return max(earliest, dt.datetime.now(tz=UTC))

    @workflow.defn()
    class AtOnce:
        @workflow.run
        async def run(self) -> datetime:
            import datetime as dt

            return dt.datetime.now(tz=UTC)

    merge_steps(monkeypatch, pair, merged)
    for workflow_type in (ByLocalName, AtOnce):
        with pytest.raises(ForbiddenCallError, match=r"run calls datetime\.now"):
            Registry([workflow_type])


def test_registration_finds_a_call_after_an_import_with_dots() -> None:
    @workflow.defn()
    class ByTopModule:
        @workflow.run
        async def run(self) -> bytes:
            import os.path

            return os.urandom(4)

    @workflow.defn()
    class BySubmodule:
        @workflow.run
        async def run(self) -> None:
            import asyncio.tasks as asyncio_tasks

            await asyncio_tasks.gather()

    for workflow_type, name in ((ByTopModule, "os.urandom"), (BySubmodule, "asyncio.gather")):
        with pytest.raises(ForbiddenCallError, match=f"run calls {name}"):
            Registry([workflow_type])


def test_replays_get_the_same_times_uuids_and_random_numbers() -> None:
    times: list[object] = []

    async def body() -> object:
        times.append((workflow.now(), workflow.random().random(), workflow.uuid4()))
        await timer(1)
        times.append(workflow.now())
        return None

    script = Script(workflow_of(body))
    script.task()
    script.task(ev.TimerFired(1))
    script.replayed()

    assert times[:2] == times[2:]
    # The second task of a script begins two seconds after ``START_MS``.
    assert times[1] == datetime.fromtimestamp(START_MS / 1000 + 2, tz=UTC)


def test_workflow_time_does_not_decrease_when_a_clock_is_set_back() -> None:
    times: list[datetime] = []

    async def body() -> object:
        times.append(workflow.now())
        await timer(1)
        times.append(workflow.now())
        return None

    script = Script(workflow_of(body))
    script.task()
    script.now_ms -= 3_600_000
    script.task(ev.TimerFired(1))

    assert times[0] == times[1]


def test_a_bug_fails_only_the_task() -> None:
    async def body() -> object:
        raise KeyError("bug")

    script = Script(workflow_of(body))
    with pytest.raises(UnhandledError, match="bug") as caught:
        script.task()

    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(HistoryError, match="make a new one"):
        script.interpreter.activate(script.history)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (
            ev.ActivityTaskScheduled(1, "other"),
            r"event 5: .*activity_type='other'\), the code requested StartTimer\(timer_id=1\)",
        ),
        (ev.TimerStarted(2, 1), r"StartTimer\(timer_id=2\).*StartTimer\(timer_id=1\)"),
    ],
)
def test_a_non_determinism_error_names_event_and_command(
    recorded: ev.Attributes, message: str
) -> None:
    async def body() -> object:
        await timer(1)
        return None

    script = Script(workflow_of(body))
    script.decide()
    script.add(ev.WorkflowTaskCompleted(), recorded)

    with pytest.raises(NonDeterminismError, match=message) as caught:
        script.replayed()
    assert caught.value.event_id == 5


def test_additional_or_missing_commands_are_non_deterministic() -> None:
    async def body() -> object:
        await timer(1)
        return None

    more = Script(workflow_of(body))
    more.decide()
    more.add(ev.WorkflowTaskCompleted(), ev.WorkflowTaskScheduled(), ev.WorkflowTaskStarted())
    with pytest.raises(NonDeterminismError, match="expects the next workflow task"):
        more.replayed()

    less = Script(workflow_of(body))
    less.task()
    less.add(ev.TimerStarted(2, 5))
    with pytest.raises(NonDeterminismError, match="the code requested nothing"):
        less.replayed()


def test_events_must_be_passed_once_and_in_order() -> None:
    async def body() -> object:
        return None

    script = Script(workflow_of(body))
    script.task()
    with pytest.raises(HistoryError, match="expected event 4, got event 5"):
        script.interpreter.activate(script.history[4:])
    with pytest.raises(HistoryError, match="the first event is"):
        Interpreter(script.registry).activate(script.history[1:])


def test_a_task_that_timed_out_is_executed_again_with_the_same_inputs() -> None:
    async def body() -> object:
        await timer(1)
        return None

    script = Script(workflow_of(body))
    timed_out = ev.WorkflowTaskTimedOut()
    script.add(ev.WorkflowTaskScheduled(), ev.WorkflowTaskStarted(), timed_out)

    assert [type(command).__name__ for command in script.task()] == ["TimerStarted"]
    script.replayed()


def test_events_after_an_uncommitted_decision_are_rejected() -> None:
    async def body() -> object:
        await timer(1)
        return None

    script = Script(workflow_of(body))
    script.decide()
    with pytest.raises(HistoryError, match="was not committed"):
        script.decide(ev.WorkflowTaskTimedOut())
