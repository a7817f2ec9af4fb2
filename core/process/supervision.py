"""One supervisor for every long-lived task of a process.

A task that ends before the supervisor is closed has ended unexpectedly, whether it raised, returned
or cancelled itself. It is restarted after a pause that doubles each time, and counts as failed
until it has run for as long as that pause. A task without restarts left is fatal: ``wait_failed``
raises ``TaskEnded``, and the process ends with ``EXIT_TASK_ENDED``. A task that follows a remote
source may report the age of its data: above ``stale_s`` it counts as failed. It has
``STUCK_FACTOR`` times that to reconnect by itself, then it is cancelled and restarted.
``BackgroundTasks`` has short-lived tasks that end by themselves.
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
"""The pause before a restart; doubled with each restart in a row."""

STUCK_FACTOR: Final = 4
"""A stale task is started again after this many times its bound, which its own retries had."""

STEADY_S: Final = 60.0
"""A task that ran this long starts again with the shortest pause."""

STALE_CHECK_S: Final = 1.0
"""The shortest pause between two checks whether a task is stuck; one is due when it may be."""

STOP_S_MAX: Final = 5.0
"""How long cancelled tasks may take to end before the supervisor gives them up."""


RESTARTS_MAX: Final = 20
"""Restarts in a row, some six minutes, of a task that a new process or leader may run better."""

EXIT_TASK_ENDED: Final = 4
"""Exit code of a process whose essential task ended and used up its restarts."""

_log: Final = logging.getLogger(__name__)


class TaskSpec(NamedTuple):
    """What to run, and when it counts as failed.

    ``run`` makes the coroutine of one start. ``restarts_max`` counts restarts in a row (None: no
    limit); an error of ``fatal`` is not followed by a restart. ``age_s`` returns the seconds since
    the task last received data from its source, and ``fault`` why it does not receive any now ("":
    it does).
    """

    name: str
    run: Callable[[], Coroutine[Any, Any, object]]
    restarts_max: int | None = None
    age_s: Callable[[], float] | None = None
    stale_s: float = math.inf
    fault: Callable[[], str] | None = None
    fatal: tuple[type[Exception], ...] = ()


class HealthCheck(NamedTuple):
    """A part of a process, or a supervised task; ``fault`` None if it works."""

    name: str
    fault: OrbweaverError | None


class Supervisor:
    """Runs tasks until ``close``. Make it inside or outside the event loop; start tasks inside."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lives: dict[str, _Life] = {}
        self._changed = asyncio.Event()
        self._failure: TaskEnded | None = None
        self.restarts = 0

    def start(self, spec: TaskSpec) -> None:
        """Run a task from now on. Raises ValueError for a name that is in use."""
        if spec.name in self._lives:
            raise ValueError(f"a task named {spec.name!r} is supervised already")
        life = self._lives[spec.name] = _Life(spec, self._monotonic())
        life.task = asyncio.create_task(self._keep(life), name=spec.name)

    async def end(self, name: str) -> None:
        """Cancel one task and wait for it; a name that is unknown is fine."""
        life = self._lives.pop(name, None)
        if life is not None:
            await _stop([life])

    async def close(self) -> None:
        """Cancel every task, the last one first, and wait for all; others may be started then."""
        lives = list(reversed(self._lives.values()))
        self._lives.clear()
        await _stop(lives)
        self._failure = None
        self._changed.clear()

    async def wait_failed(self) -> None:
        """Wait until a task has used up its restarts. Raises TaskEnded."""
        while self._failure is None:
            await self._changed.wait()
        raise self._failure

    def health(self) -> list[HealthCheck]:
        """Every task in the order of its start, with its fault."""
        now = self._monotonic()
        return [HealthCheck(life.spec.name, life.fault(now)) for life in self._lives.values()]

    def fault(self, name: str) -> OrbweaverError | None:
        """The fault of one task; a task that was never started is not ready."""
        life = self._lives.get(name)
        return NotReady(f"{name} does not run") if life is None else life.fault(self._monotonic())

    async def _keep(self, life: _Life) -> None:
        spec = life.spec
        while True:
            life.begin(self._monotonic())
            error = await self._run_once(life)
            life.note_end(error, self._monotonic(), stale=isinstance(error, _Stale))
            used_up = spec.restarts_max is not None and life.ends > spec.restarts_max
            if used_up or isinstance(error, spec.fatal):
                self._give_up(spec, error)
                return
            self.restarts += 1
            trace = None if isinstance(error, OrbweaverError | _Stale) else error
            text = "task %s ended: %s; it starts again in %.1f s"
            _log.error(text, spec.name, _reason(error), life.pause_s, exc_info=trace)
            await asyncio.sleep(life.pause_s)

    async def _run_once(self, life: _Life) -> BaseException | None:
        """Run the task and return what ended it. Only a cancellation from outside is raised."""
        running = asyncio.ensure_future(_started(life.spec.run))
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=life.next_check_s(self._monotonic()))
                if not running.done() and life.is_stuck(self._monotonic()):
                    stale = _Stale(life.staleness())
                    running.cancel()
                    await asyncio.wait({running})  # a second run beside it would do its work twice
                    return stale
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running}, timeout=STOP_S_MAX)
            error = _end_of(running)
        return error

    def _give_up(self, spec: TaskSpec, error: BaseException | None) -> None:
        message = f"task {spec.name} ended: {_reason(error)}"
        if self._failure is None:
            self._failure = TaskEnded(message, subject=spec.name)
            self._failure.__cause__ = error
        trace = None if isinstance(error, OrbweaverError) else error
        _log.error("%s; it cannot be started again", message, exc_info=trace)
        self._changed.set()


class _Life:
    """One supervised task: its present run and how the runs before it ended."""

    def __init__(self, spec: TaskSpec, now: float) -> None:
        self.spec = spec
        self.task: asyncio.Task[None] | None = None
        self.ends = 0
        self.pause_s = 0.0
        self._began = now
        self._running = True
        self._last = ""

    def begin(self, now: float) -> None:
        self._began, self._running = now, True

    def note_end(self, error: BaseException | None, now: float, *, stale: bool = False) -> None:
        if now - self._began >= STEADY_S:
            self.ends = 0
        if not stale:  # retrying does not delay the return of an unavailable source
            self.ends += 1
        self.pause_s = min(BACKOFF_S_MIN * 2 ** min(max(self.ends - 1, 0), 10), BACKOFF_S_MAX)
        self._running, self._last = False, _reason(error)

    def fault(self, now: float) -> OrbweaverError | None:
        spec = self.spec
        if not self._running or (self._last and now - self._began < self.pause_s):
            return NotReady(f"task {spec.name} ended: {self._last}", remedy="see the log")
        if spec.age_s is not None and spec.age_s() > spec.stale_s:
            return NotReady(self.staleness(), remedy="check the connection to its source")
        reason = spec.fault() if spec.fault is not None else ""
        return NotReady(f"{spec.name}: {reason}") if reason else None

    def is_stuck(self, now: float) -> bool:
        """Whether it received nothing in this run for longer than the bound."""
        return self._stuck_in_s(now) < 0

    def next_check_s(self, now: float) -> float | None:
        """Seconds until it can be stuck; None: never."""
        left_s = self._stuck_in_s(now)
        return None if left_s == math.inf else max(left_s, STALE_CHECK_S)

    def _stuck_in_s(self, now: float) -> float:
        """Seconds until it counts as stuck if it receives nothing."""
        if self.spec.age_s is None:
            return math.inf
        silent_s = min(self.spec.age_s(), now - self._began)
        return STUCK_FACTOR * self.spec.stale_s - silent_s

    def staleness(self) -> str:
        age_s = self.spec.age_s() if self.spec.age_s is not None else 0.0
        bound = f"at most {self.spec.stale_s:g} s are allowed"
        return f"{self.spec.name} received nothing for {age_s:.0f} s, {bound}"


class _Stale(Exception):
    """A run was cancelled because it received nothing for too long."""


class BackgroundTasks:
    """Short-lived tasks: failures are logged, and ``close`` cancels the running ones."""

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
        """Wait until all have ended by themselves."""
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


def _end_of(running: asyncio.Future[None]) -> BaseException | None:
    """What ended a task; reading it keeps asyncio from reporting it once more."""
    if not running.done():
        return None
    return asyncio.CancelledError() if running.cancelled() else running.exception()


async def _started(run: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Make the coroutine inside the task, so that a failure to make it ends the task alone."""
    await run()


async def _stop(lives: list[_Life]) -> None:
    tasks = {life.task for life in lives if life.task is not None}
    for life in lives:
        if life.task is not None:
            life.task.cancel()
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=2 * STOP_S_MAX)
    for task in left:
        _log.error("task %s did not end in time after its cancellation", task.get_name())


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "it returned although it must run for as long as the process"
    has_text = isinstance(error, OrbweaverError | _Stale)
    return str(error) if has_text else f"{type(error).__name__}: {error}"
