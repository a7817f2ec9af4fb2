"""Workflows for the measures of the engine."""

from __future__ import annotations

from workflows.api import activity, workflow
from workflows.api.definitions import Registry

SLEEP_S = 86_400.0

_ONCE = workflow.ActivityOptions(start_to_close_s=30.0)


@activity.defn()
async def run_errand(number: int) -> int:
    """Return the number."""
    return number


@workflow.defn()
class Errand:
    """Runs one activity."""

    @workflow.run
    async def run(self, number: int) -> int:
        """Return the number."""
        return await workflow.execute_activity(run_errand, number, options=_ONCE)


@workflow.defn()
class Errands:
    """Runs activities one after the other."""

    @workflow.run
    async def run(self, count: int) -> int:
        """Return the number of activities."""
        done = 0
        for number in range(count):
            done += await workflow.execute_activity(run_errand, number, options=_ONCE) == number
        return done


@workflow.defn()
class Sleeper:
    """A workflow that sleeps and answers a query."""

    @workflow.run
    async def run(self) -> None:
        """Sleep."""
        await workflow.sleep(SLEEP_S)

    @workflow.query
    def is_running(self) -> bool:
        """Return True; without a worker, the query fails."""
        return True


SAMPLE_REGISTRY = Registry([Errand, Errands, Sleeper], [run_errand])
