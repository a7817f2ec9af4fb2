"""A supervised task that ends is restarted; after too many restarts, the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.errors import NotReady, StoreUnavailable, TaskEnded
from core.process import supervision
from core.process.supervision import BackgroundTasks, Supervisor, TaskSpec
from tests.support.deadlines import until


@pytest.fixture
async def supervisor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    monkeypatch.setattr(supervision, "BACKOFF_S_MIN", 0.001)
    monkeypatch.setattr(supervision, "STALE_CHECK_S", 0.01)
    supervisor = Supervisor()
    yield supervisor
    await supervisor.close()


class Task:
    """Each start raises the next of ``ends``, or returns if that is None; later starts block."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.start_count = 0
        self.cancelled = False

    async def run(self) -> None:
        self.start_count += 1
        if self.ends:
            end = self.ends.pop(0)
            if end is not None:
                raise end
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


ENDS = [RuntimeError("a bug"), StoreUnavailable("away"), None, asyncio.CancelledError()]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
async def test_a_task_is_restarted_after_any_kind_of_end(
    supervisor: Supervisor, end: BaseException | None
) -> None:
    task = Task(end)

    supervisor.start(TaskSpec("one", task.run))
    await until(lambda: task.start_count == 2)
    await until(lambda: dict(supervisor.health())["one"] is None)

    assert supervisor.restarts == 1


async def test_a_task_is_retried_if_its_coroutine_cannot_be_created(
    supervisor: Supervisor,
) -> None:
    task, failures = Task(), [RuntimeError("not today")]

    def make_coroutine() -> object:
        if failures:
            raise failures.pop()
        return task.run()

    supervisor.start(TaskSpec("one", make_coroutine))  # type: ignore[arg-type]
    await until(lambda: task.start_count == 1)

    assert supervisor.restarts == 1


async def test_health_has_the_exception_of_a_task_that_awaits_its_restart(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF_S_MIN", 60.0)
    monkeypatch.setattr(supervision, "BACKOFF_S_MAX", 60.0)
    supervisor.start(TaskSpec("healthy", Task().run))
    supervisor.start(TaskSpec("failing", Task(RuntimeError("a bug")).run))
    await until(lambda: dict(supervisor.health())["failing"] is not None)

    assert [task.name for task in supervisor.health() if task.fault] == ["failing"]
    assert "task failing ended: RuntimeError: a bug" in str(dict(supervisor.health())["failing"])


async def test_restart_pauses_double_and_a_steady_run_resets_the_pause() -> None:
    task = supervision._SupervisedTask(TaskSpec("one", Task().run), 0.0)

    pauses = []
    for _ in range(12):
        task.begin(0.0)
        task.note_end(None, 0.0)
        pauses.append(task.pause_s)
    task.begin(0.0)
    task.note_end(None, supervision.STEADY_S)

    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == supervision.BACKOFF_S_MAX
    assert task.pause_s == supervision.BACKOFF_S_MIN


async def test_wait_failed_raises_when_a_task_has_no_restarts_left(supervisor: Supervisor) -> None:
    task = Task(*(RuntimeError(f"end {number}") for number in range(9)))

    supervisor.start(TaskSpec("one", task.run, restarts_max=2))
    with pytest.raises(TaskEnded, match="task 'one' ended: RuntimeError: end 2") as ended:
        await supervisor.wait_for_failure()

    assert task.start_count == 3
    assert ended.value.subject == "one"
    assert isinstance(dict(supervisor.health())["one"], NotReady)


async def test_a_task_is_stale_and_restarted_when_it_receives_nothing(
    supervisor: Supervisor,
) -> None:
    task, age = Task(), [0.0]
    supervisor.start(TaskSpec("one", task.run, age_s=lambda: age[0], stale_s=0.05))
    await until(lambda: task.start_count == 1)
    before = dict(supervisor.health())["one"]

    age[0] = 99.0
    stale = dict(supervisor.health())["one"]
    await until(lambda: task.start_count >= 2)
    age[0] = 0.0
    await until(lambda: dict(supervisor.health())["one"] is None)

    assert before is None
    assert "one received nothing for 99 s" in str(stale)


async def test_a_task_is_unhealthy_while_it_reports_a_fault(
    supervisor: Supervisor,
) -> None:
    reasons = ["forbidden"]
    supervisor.start(TaskSpec("one", Task().run, fault=lambda: reasons[0]))
    await until(lambda: "forbidden" in str(dict(supervisor.health())["one"]))

    reasons[0] = ""

    assert dict(supervisor.health())["one"] is None


async def test_close_cancels_every_task_and_restarts_no_task(supervisor: Supervisor) -> None:
    tasks = [Task(), Task(), Task(RuntimeError("a bug"))]
    for number, task in enumerate(tasks):
        supervisor.start(TaskSpec(f"task {number}", task.run))
    await until(lambda: tasks[2].start_count == 2)

    await supervisor.close()

    assert all(task.cancelled for task in tasks)
    assert supervisor.health() == []


async def test_start_refuses_a_task_with_the_name_of_a_running_task(
    supervisor: Supervisor,
) -> None:
    supervisor.start(TaskSpec("one", Task().run))

    with pytest.raises(ValueError, match="supervised already"):
        supervisor.start(TaskSpec("one", Task().run))


async def test_failed_background_tasks_are_logged_and_close_cancels_running_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks, running = BackgroundTasks("errand"), Task()

    tasks.start(Task(RuntimeError("a bug")).run())
    tasks.start(running.run())
    await until(lambda: len(tasks) == 1)
    await tasks.close()

    assert "background task errand failed" in caplog.text
    assert running.cancelled


async def test_a_new_task_is_not_checked_again_before_it_can_be_stale(
    supervisor: Supervisor,
) -> None:
    task, checks = Task(), 0

    def age_s() -> float:
        nonlocal checks
        checks += 1
        return 0.0

    supervisor.start(TaskSpec("one", task.run, age_s=age_s, stale_s=15.0))
    await until(lambda: task.start_count == 1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20 * supervision.STALE_CHECK_S):
            await until(lambda: checks > 2)
