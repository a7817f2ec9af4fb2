"""The workflows that the engine is measured with: one that is done at once, one that sleeps."""

from __future__ import annotations

from workflows.api import activity, workflow
from workflows.api.definitions import Registry

SLEEP_S = 86_400.0

_ONCE = workflow.ActivityOptions(start_to_close_s=30.0)


@activity.defn()
async def run_errand(number: int) -> int:
    """As little as an activity can do."""
    return number


@workflow.defn()
class Errand:
    """A short execution: one activity, then its result."""

    @workflow.run
    async def run(self, number: int) -> int:
        """The number that it was given."""
        return await workflow.execute_activity(run_errand, number, options=_ONCE)


@workflow.defn()
class Errands:
    """Activities one after the other: what makes a history long."""

    @workflow.run
    async def run(self, count: int) -> int:
        """How many were done."""
        done = 0
        for number in range(count):
            done += await workflow.execute_activity(run_errand, number, options=_ONCE) == number
        return done


@workflow.defn()
class Sleeper:
    """An execution that only waits, and answers whoever asks."""

    @workflow.run
    async def run(self) -> None:
        """Sleep."""
        await workflow.sleep(SLEEP_S)

    @workflow.query
    def well(self) -> bool:
        """Whether somebody owns it: the answer is made by its worker."""
        return True


REGISTRY = Registry([Errand, Errands, Sleeper], [run_errand])
