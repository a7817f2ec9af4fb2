"""Why a run does not proceed in this worker, and when it is tried again.

Either its code cannot run here (a workflow type or stored value that this worker cannot use; a
worker of another version can), or its steps fail. The reason is listed with the worker's faults,
and the run is tried again after ``RETRY_UNUSABLE_S``.
"""

from __future__ import annotations

from collections.abc import Callable

from core.errors import UnusableValue
from workflows.engine.store.faults import RETRY_UNUSABLE_S, WorkerFaults
from workflows.engine.store.keys import shard_of
from workflows.engine.worker.deadlines import Deadline, Deadlines


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
