"""The supervisor of a process: runs its long-lived tasks and restarts a task that ends.

A task that ends is restarted after a pause, which doubles with each restart. Its health check fails
until the new run has lasted as long as the pause. When the restarts are used up,
``wait_for_failure`` raises TaskEnded. A task whose data is too old is restarted too
(``STUCK_FACTOR``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from core.errors import NotReady, OrbweaverError, TaskEnded

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 30.0
"""The pause before a restart doubles between these bounds."""

STUCK_FACTOR: Final = 4
"""A task is restarted when its data is older than this many times ``stale_s``.

Until then, the task has time to retry by itself.
"""

STEADY_S: Final = 60.0
"""After a run of this length, the next restart has the shortest pause again."""

STALE_CHECK_S: Final = 1.0
"""The shortest time between two checks whether a task is stuck."""

STOP_S_MAX: Final = 5.0
"""How long a cancelled run may take to end; ``Supervisor.close`` waits twice as long."""

RESTARTS_MAX: Final = 20
"""Limit for the tasks of a controller. After these restarts (about six minutes), another replica
takes over."""

EXIT_TASK_ENDED: Final = 4
"""The exit code of a process whose task has used up its restarts."""

_log: Final = logging.getLogger(__name__)


class TaskSpec(NamedTuple):
    """A task that must run until the supervisor is closed.

    ``run`` returns a new coroutine for each start. ``restarts_max`` limits consecutive restarts
    (None: no limit). After an error of a class in ``fatal``, the task is not restarted. ``age_s``
    returns the seconds since the last data; above ``stale_s`` the health check fails. ``fault``
    returns why no data arrives, else "".
    """

    name: str
    run: Callable[[], Coroutine[Any, Any, object]]
    restarts_max: int | None = None
    age_s: Callable[[], float] | None = None
    stale_s: float = math.inf
    fault: Callable[[], str] | None = None
    fatal: tuple[type[Exception], ...] = ()


class HealthCheck(NamedTuple):
    """The health of a task or another part of a process; ``fault`` None means healthy."""

    name: str
    fault: OrbweaverError | None


class Supervisor:
    """Runs tasks until ``close``. May be created before the event loop runs."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._supervised: dict[str, _SupervisedTask] = {}
        self._changed = asyncio.Event()
        self._failure: TaskEnded | None = None
        self.restarts = 0

    def start(self, spec: TaskSpec) -> None:
        """Start a task and keep it running. Raises ValueError for a name that is in use."""
        if spec.name in self._supervised:
            raise ValueError(f"a task named {spec.name!r} is supervised already")
        supervised = self._supervised[spec.name] = _SupervisedTask(spec, self._monotonic())
        supervised.task = asyncio.create_task(self._run_and_restart(supervised), name=spec.name)

    async def end(self, name: str) -> None:
        """Cancel one task and wait for its end; an unknown name is ignored."""
        supervised = self._supervised.pop(name, None)
        if supervised is not None:
            await _stop([supervised])

    async def close(self) -> None:
        """Cancel every task, the last started first, and wait for them. ``start`` may follow."""
        supervised_tasks = list(reversed(self._supervised.values()))
        self._supervised.clear()
        await _stop(supervised_tasks)
        self._failure = None
        self._changed.clear()

    async def wait_for_failure(self) -> None:
        """Wait until a task has used up its restarts. Raises TaskEnded."""
        while self._failure is None:
            await self._changed.wait()
        raise self._failure

    def health(self) -> list[HealthCheck]:
        """The health of every task, in the order of the starts."""
        now = self._monotonic()
        return [
            HealthCheck(supervised.spec.name, supervised.fault(now))
            for supervised in self._supervised.values()
        ]

    async def _run_and_restart(self, supervised: _SupervisedTask) -> None:
        spec = supervised.spec
        while True:
            supervised.begin(self._monotonic())
            error = await self._run_once(supervised)
            supervised.note_end(error, self._monotonic(), stale=isinstance(error, _Stale))
            has_no_restart_left = (
                spec.restarts_max is not None and supervised.ends > spec.restarts_max
            )
            if has_no_restart_left or isinstance(error, spec.fatal):
                self._give_up(spec, error)
                return
            self.restarts += 1
            trace = None if isinstance(error, OrbweaverError | _Stale) else error
            text = "task %s ended: %s; restarting it in %.1f s"
            _log.error(text, spec.name, _reason(error), supervised.pause_s, exc_info=trace)
            await asyncio.sleep(supervised.pause_s)

    async def _run_once(self, supervised: _SupervisedTask) -> BaseException | None:
        """Return the error that ended the run.

        Raises CancelledError only if the supervisor cancels the task.
        """
        current_run = asyncio.ensure_future(_call(supervised.spec.run))
        try:
            while not current_run.done():
                await asyncio.wait(
                    {current_run}, timeout=supervised.next_check_s(self._monotonic())
                )
                if not current_run.done() and supervised.is_stuck(self._monotonic()):
                    stale = _Stale(supervised.staleness())
                    current_run.cancel()
                    await asyncio.wait({current_run})  # two runs at a time would do the work twice
                    return stale
        finally:
            if not current_run.done():
                current_run.cancel()
                await asyncio.wait({current_run}, timeout=STOP_S_MAX)
            error = _error_of(current_run)
        return error

    def _give_up(self, spec: TaskSpec, error: BaseException | None) -> None:
        message = f"the background task {spec.name!r} ended: {_reason(error)}"
        if self._failure is None:
            remedy = "find the cause in the log of this process, and start it again"
            self._failure = TaskEnded(message, subject=spec.name, remedy=remedy)
            self._failure.__cause__ = error
        trace = None if isinstance(error, OrbweaverError) else error
        _log.error("%s; it is not restarted", message, exc_info=trace)
        self._changed.set()


class _SupervisedTask:
    def __init__(self, spec: TaskSpec, now: float) -> None:
        self.spec = spec
        self.task: asyncio.Task[None] | None = None
        self.ends = 0
        self.pause_s = 0.0
        self._started_at = now
        self._is_running = True
        self._last_error = ""

    def begin(self, now: float) -> None:
        self._started_at, self._is_running = now, True

    def note_end(self, error: BaseException | None, now: float, *, stale: bool = False) -> None:
        if now - self._started_at >= STEADY_S:
            self.ends = 0
        if not stale:  # the pause must not grow while the source is unavailable
            self.ends += 1
        self.pause_s = min(BACKOFF_S_MIN * 2 ** min(max(self.ends - 1, 0), 10), BACKOFF_S_MAX)
        self._is_running, self._last_error = False, _reason(error)

    def fault(self, now: float) -> OrbweaverError | None:
        spec = self.spec
        if not self._is_running or (self._last_error and now - self._started_at < self.pause_s):
            return NotReady(
                f"task {spec.name} ended: {self._last_error}",
                remedy="find the cause in the log of this process",
            )
        if spec.age_s is not None and spec.age_s() > spec.stale_s:
            return NotReady(self.staleness(), remedy="check the connection to the task's source")
        reason = spec.fault() if spec.fault is not None else ""
        return NotReady(f"{spec.name}: {reason}") if reason else None

    def is_stuck(self, now: float) -> bool:
        return self._stuck_in_s(now) < 0

    def next_check_s(self, now: float) -> float | None:
        """Seconds until the next check whether the task is stuck; None without ``age_s``."""
        stuck_in_s = self._stuck_in_s(now)
        return None if stuck_in_s == math.inf else max(stuck_in_s, STALE_CHECK_S)

    def _stuck_in_s(self, now: float) -> float:
        """Seconds until the task counts as stuck, if it receives nothing."""
        if self.spec.age_s is None:
            return math.inf
        silent_s = min(self.spec.age_s(), now - self._started_at)
        return STUCK_FACTOR * self.spec.stale_s - silent_s

    def staleness(self) -> str:
        age_s = self.spec.age_s() if self.spec.age_s is not None else 0.0
        bound = f"at most {self.spec.stale_s:g} s are allowed"
        return f"{self.spec.name} received nothing for {age_s:.0f} s, {bound}"


class _Stale(Exception):
    """A run received nothing for too long."""


class BackgroundTasks:
    """Runs short-lived tasks and logs their failures."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, object], name: str = "") -> asyncio.Task[Any]:
        """Run a coroutine to its end."""
        task = asyncio.create_task(work, name=name or self._name)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        return task

    async def wait(self) -> None:
        """Wait for the end of all tasks without cancelling them."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel the remaining tasks and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S_MAX)

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("background task %s failed", task.get_name(), exc_info=task.exception())


def _error_of(running: asyncio.Future[None]) -> BaseException | None:
    """The error that ended a run. Reading the error prevents a second log entry by asyncio."""
    if not running.done():
        return None
    return asyncio.CancelledError() if running.cancelled() else running.exception()


async def _call(run: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Call ``run`` inside the task, so that an error of ``run`` ends only this task."""
    await run()


async def _stop(supervised_tasks: list[_SupervisedTask]) -> None:
    tasks = {supervised.task for supervised in supervised_tasks if supervised.task is not None}
    for supervised in supervised_tasks:
        if supervised.task is not None:
            supervised.task.cancel()
    if not tasks:
        return
    _, running_tasks = await asyncio.wait(tasks, timeout=2 * STOP_S_MAX)
    for task in running_tasks:
        _log.error("task %s did not end in time after its cancellation", task.get_name())


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "it returned, but must run as long as the process"
    has_text = isinstance(error, OrbweaverError | _Stale)
    return str(error) if has_text else f"{type(error).__name__}: {error}"
