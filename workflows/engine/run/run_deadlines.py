"""The deadlines of one run in its worker: timers, timeouts, and the retry after an obstacle.

A run has an obstacle when its code cannot run in this worker (a workflow type or stored value that
only a worker of another version can use), or when its steps fail. The reason is listed with the
worker's faults, and the run is tried again after ``RETRY_UNUSABLE_S``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import WeakMethod

from core.errors import UnusableValue
from workflows.engine.clock import Clock, Instant, instant
from workflows.engine.store.faults import RETRY_UNUSABLE_S, WorkerFaults
from workflows.engine.store.keys import shard_of
from workflows.engine.store.records import RunHead
from workflows.engine.worker.deadlines import Deadline, Deadlines

OnDue = Callable[[str, int], None]
"""Called with a run id and the id of a timer, or the milliseconds of a timeout, negative."""


class RunTimers:
    """Timers of one execution, across runs; holds ``on_due`` weakly."""

    def __init__(self, clock: Clock, deadlines: Deadlines, on_due: OnDue) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._on_due = WeakMethod(on_due)
        self._armed: dict[int, Deadline] = {}

    def stop(self) -> None:
        """Cancel all."""
        for deadline in self._armed.values():
            deadline.cancel()
        self._armed.clear()

    def arm(self, head: RunHead, since: Instant | None = None) -> None:
        """Arm a deadline for every timer and timeout of an open run, and cancel all others.

        ``since``: when the head was written, by default now. What is left of a timer is counted
        from the run's own time, and by the steady clock from then on: setting the wall clock makes
        no timer longer or shorter.
        """
        has_none = not (head.timers or head.run_deadline_ms or head.execution_deadline_ms)
        if not head.is_open or (has_none and not self._armed):
            return
        wall_ms, steady_s = since or instant(self._clock)
        now_ms = max(wall_ms, head.last_ms)
        elapsed_s = self._clock.monotonic() - steady_s
        due_ms = {timer.timer_id: timer.fire_ms for timer in head.timers}
        for at_ms in (head.run_deadline_ms, head.execution_deadline_ms):
            if at_ms:
                due_ms[-at_ms] = at_ms
        for number in self._armed.keys() - due_ms.keys():
            self._armed.pop(number).cancel()
        for number, at_ms in due_ms.items():
            if number not in self._armed:
                wait_s = (at_ms - now_ms) / 1000 - elapsed_s
                fire = partial(_fire, self._on_due, head.run_id, number)
                self._armed[number] = self._deadlines.after(wait_s, fire)


def _fire(on_due: WeakMethod[OnDue], run_id: str, number: int) -> None:
    call = on_due()
    if call is not None:
        call(run_id, number)


class RunObstacle:
    """Of one execution. ``value``: the reason, while there is one."""

    def __init__(self, faults: WorkerFaults, deadlines: Deadlines) -> None:
        self.value: UnusableValue | None = None
        self.stops_code = False
        """Inputs are recorded; the code and its activities are left to another worker."""
        self.stops_steps = False
        """No step is made, because they fail."""
        self._faults = faults
        self._deadlines = deadlines
        self._retry: Deadline | None = None

    def note(self, value: UnusableValue, workflow_id: str, retry: Callable[[], None]) -> None:
        """List the reason, and call ``retry`` in a while."""
        self.clear()
        self.value = value
        self._faults.add(value, shard=shard_of(workflow_id))
        self._retry = self._deadlines.after(RETRY_UNUSABLE_S, retry)

    def lift(self) -> None:
        """Try again, although the reason stays listed until that has succeeded."""
        self.stops_code = self.stops_steps = False

    def clear(self) -> None:
        """Remove the reason from the list and cancel the retry."""
        if self._retry is not None:
            self._retry.cancel()
        if self.value is not None:
            self._faults.clear(self.value.key)
        self._retry = self.value = None
