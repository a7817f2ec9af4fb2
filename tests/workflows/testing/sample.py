"""Sample workflows for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.model.errors import ApplicationError

QUICK = workflow.ActivityOptions(start_to_close_s=5)
TWO_ATTEMPTS = QUICK._replace(
    retry=workflow.RetryPolicy(
        maximum_attempts=2, non_retryable=("Poison",), pause_when_exhausted=True
    )
)


@activity.defn()
async def double(number: int) -> int:
    activity.heartbeat(number)
    return number * 2


@activity.defn()
def fail(times: int) -> int:
    attempt = activity.info().attempt
    if attempt <= times:
        raise OSError(f"attempt {attempt}")
    return attempt


@activity.defn()
async def poison() -> None:
    raise ApplicationError("no", type="Poison")


@workflow.defn()
class Doubling:
    @workflow.run
    async def run(self, number: int, times: int = 1) -> int:
        for _ in range(times):
            number = await workflow.execute_activity(double, number, options=QUICK)
        return number


@workflow.defn()
class Failing:
    @workflow.run
    async def run(self, times: int, options: str = "quick") -> int:
        chosen = TWO_ATTEMPTS if options == "twice" else QUICK
        return await workflow.execute_activity(fail, times, options=chosen)


@workflow.defn()
class Poisoned:
    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_activity(poison, options=TWO_ATTEMPTS)
        except workflow.ActivityError as error:
            cause = error.__cause__
            assert isinstance(cause, ApplicationError)
            return cause.type
        return "nothing"


@workflow.defn()
class Basket:
    """Returns the things after the signal ``close``, or an empty list after an hour."""

    def __init__(self) -> None:
        self.things: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        try:
            await workflow.wait_condition(lambda: self.closed, timeout_s=3600)
        except workflow.TimeoutError:
            return []
        return self.things

    @workflow.signal
    def put(self, thing: str) -> None:
        self.things.append(thing)

    @workflow.signal
    async def close(self) -> None:
        await workflow.sleep(1)
        self.closed = True

    @workflow.query
    def count(self) -> int:
        return len(self.things)

    @workflow.query
    def meddle(self) -> None:
        workflow.start_activity(double, 1, options=QUICK)

    @workflow.update
    async def take(self, thing: str) -> int:
        self.things.remove(thing)
        await workflow.sleep(5)
        return len(self.things)

    @workflow.validator("take")
    def may_take(self, thing: str) -> None:
        if thing not in self.things:
            raise ApplicationError(f"no {thing} here", type="Missing")


@workflow.defn()
class Parent:
    @workflow.run
    async def run(self, number: int) -> int:
        child = await workflow.start_child(Doubling, number)
        assert child.run_id
        other = await workflow.execute_child(
            Doubling, 10, options=workflow.ChildOptions(workflow_id="other")
        )
        return int(await child) + int(other)


@workflow.defn()
class Forgetful:
    """Starts the child ``Sleeper`` and closes without waiting for the child.

    If ``then`` is not empty, the workflow continues as new with the type ``then``.
    """

    @workflow.run
    async def run(self, policy: workflow.ParentClosePolicy, then: str = "") -> None:
        options = workflow.ChildOptions(workflow_id="child", parent_close=policy)
        await workflow.start_child(Sleeper, options=options)
        if then:
            workflow.continue_as_new(1, 1, workflow_type=then)


@workflow.defn()
class Sleeper:
    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.sleep(86_400)
        except workflow.CancelledError:
            await workflow.execute_activity(double, 1, options=QUICK)
            raise
        return "slept"


@workflow.defn()
class Counting:
    @workflow.run
    async def run(self, left: int) -> str:
        if left:
            workflow.continue_as_new(left - 1)
        return workflow.info().continued_run_id


@workflow.defn()
class Courier:
    @workflow.run
    async def run(self, workflow_id: str) -> str:
        target = workflow.external("Basket", workflow_id)
        try:
            await target.signal("put", "parcel")
            await target.signal("close")
        except ApplicationError as error:
            return error.type
        return "delivered"


@workflow.defn()
class Stopper:
    @workflow.run
    async def run(self, workflow_id: str) -> None:
        await workflow.external("Sleeper", workflow_id).cancel()


WORKFLOWS: list[type[Any]] = [
    Doubling,
    Failing,
    Poisoned,
    Basket,
    Parent,
    Forgetful,
    Sleeper,
    Counting,
    Courier,
    Stopper,
]
ACTIVITIES: list[Callable[..., Any]] = [double, fail, poison]
SAMPLE_REGISTRY = Registry(WORKFLOWS, ACTIVITIES)
