"""Small workflows and activities for the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.model.errors import ApplicationError

QUICK = workflow.ActivityOptions(
    start_to_close_s=20, retry=workflow.RetryPolicy(initial_interval_s=0.01)
)
"""The first retry is after 10 ms; the number of retries has no limit."""

THRICE = QUICK._replace(
    retry=workflow.RetryPolicy(
        initial_interval_s=0.01,
        maximum_attempts=3,
        non_retryable=("Poison",),
        pause_when_exhausted=True,
    )
)
"""The third failure pauses the execution."""

SOON_S = 0.05


class ActivityLimits(NamedTuple):
    """Timeouts and retries of one activity. 0 means no limit."""

    start_to_close_s: float
    heartbeat_s: float = 0.0
    schedule_to_close_s: float = 0.0
    maximum_attempts: int = 0
    pause_when_exhausted: bool = False


class SampleActivities:
    """Activities with state.

    ``calls``: a word for each started attempt, except of ``climb``. ``failures_left``: how many
    attempts of ``work`` will fail. ``gate``: ``wait`` and the first ``climb`` wait for it.
    ``begun``: ``wait`` has started. ``received_details``: the heartbeat details that each attempt
    of ``climb`` received.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures_left = 0
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.received_details: list[tuple[object, ...]] = []

    @activity.defn()
    async def work(self, word: str) -> str:
        self.calls.append(word)
        if self.failures_left:
            self.failures_left -= 1
            raise OSError(f"{word} did not work")
        return word.upper()

    @activity.defn()
    async def poison(self) -> None:
        self.calls.append("poison")
        raise ApplicationError("no", type="Poison")

    @activity.defn()
    async def wait(self) -> str:
        self.begun.set()
        self.calls.append("wait")
        await self.gate.wait()
        return "waited"

    @activity.defn()
    async def work_or_wait(self) -> str:
        await self.work("work")
        return await self.wait()

    @activity.defn()
    async def climb(self) -> str:
        """The first attempt waits for ``gate`` after its heartbeat."""
        info = activity.info()
        self.received_details.append(info.heartbeat_details)
        activity.heartbeat(f"step {info.attempt}")
        if info.attempt == 1:
            await self.gate.wait()
        return "up"


@workflow.defn()
class Chain:
    """Runs activities with ``THRICE`` in turn, with an optional timer after each."""

    @workflow.run
    async def run(self, words: list[str], pause_s: float = 0.0) -> list[str]:
        results = []
        for word in words:
            results.append(str(await workflow.execute_activity("work", word, options=THRICE)))
            if pause_s:
                await workflow.sleep(pause_s)
        return results


@workflow.defn()
class Steady:
    """Runs activities with ``QUICK`` in turn, with a timer after each."""

    @workflow.run
    async def run(self, words: list[str], pause_s: float = 0.0) -> list[str]:
        results = []
        for word in words:
            results.append(str(await workflow.execute_activity("work", word, options=QUICK)))
            await workflow.sleep(pause_s)
        return results


@workflow.defn()
class Poisoned:
    """Runs an activity whose error is not retried."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_activity("poison", options=THRICE)
        except workflow.ActivityError as error:
            return type(error.__cause__).__name__
        return "nothing"


@workflow.defn()
class Waiting:
    """Runs an activity with ``limits``."""

    @workflow.run
    async def run(self, name: str, limits: ActivityLimits) -> str:
        options = workflow.ActivityOptions(
            start_to_close_s=limits.start_to_close_s,
            heartbeat_s=limits.heartbeat_s,
            schedule_to_close_s=limits.schedule_to_close_s,
            retry=workflow.RetryPolicy(
                initial_interval_s=0.01,
                maximum_attempts=limits.maximum_attempts,
                pause_when_exhausted=limits.pause_when_exhausted,
            ),
            cancellation=workflow.CancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        try:
            return str(await workflow.execute_activity(name, options=options))
        except workflow.ActivityError as error:
            return f"{type(error.__cause__).__name__} {getattr(error.__cause__, 'type', '')}"


@workflow.defn()
class Saga:
    """Compensates the first step when the second step fails or is cancelled."""

    @workflow.run
    async def run(self, pauses: bool = False) -> list[str]:
        policy = workflow.RetryPolicy(
            initial_interval_s=0.01, maximum_attempts=2, pause_when_exhausted=pauses
        )
        options = workflow.ActivityOptions(start_to_close_s=20, retry=policy)
        await workflow.execute_activity("work", "book", options=QUICK)
        try:
            await workflow.execute_activity("work", "pay", options=options)
        except (workflow.ActivityError, workflow.CancelledError) as error:
            undone: str = await workflow.execute_activity("work", "undo", options=QUICK)
            return [undone, type(error).__name__, getattr(error, "retry_state", "")]
        return ["done"]


@workflow.defn()
class Basket:
    """Collects things until a signal closes the basket."""

    def __init__(self) -> None:
        self.things: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed)
        return self.things

    @workflow.signal
    def put(self, thing: str) -> None:
        self.things.append(thing)

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def count(self) -> int:
        return len(self.things)

    @workflow.update
    async def take(self, thing: str) -> int:
        self.things.remove(thing)
        await workflow.sleep(0.01)
        return len(self.things)

    @workflow.update
    async def brood(self) -> None:
        """Never complete: tests put in few things."""
        await workflow.wait_condition(lambda: len(self.things) > 1_000)

    @workflow.validator("take")
    def may_take(self, thing: str) -> None:
        if thing not in self.things:
            raise ApplicationError(f"no {thing} here", type="Missing")


@workflow.defn()
class Tally:
    """Counts signals without storing them."""

    def __init__(self) -> None:
        self.count = 0
        self.closed = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.closed)
        return self.count

    @workflow.signal
    def add(self, _: str) -> None:
        self.count += 1

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.update
    def added(self) -> int:
        return self.count


@workflow.defn()
class Companion:
    """Waits for a signal while an activity runs."""

    def __init__(self) -> None:
        self.is_signalled = False

    @workflow.run
    async def run(self) -> str:
        waiting: workflow.Future[str] = workflow.start_activity("wait", options=QUICK)
        await workflow.wait_condition(lambda: self.is_signalled)
        return await waiting

    @workflow.signal
    def tell(self) -> None:
        self.is_signalled = True


@workflow.defn()
class Parent:
    """Runs a child."""

    @workflow.run
    async def run(self, child_id: str) -> list[str]:
        options = workflow.ChildOptions(workflow_id=child_id)
        try:
            return list(await workflow.execute_child(Chain, ["a", "b"], options=options))
        except (workflow.ChildWorkflowError, ApplicationError) as error:
            return [type(error).__name__]


@workflow.defn()
class Forgetful:
    """Starts a child and ends while the child runs."""

    @workflow.run
    async def run(self, policy: workflow.ParentClosePolicy) -> None:
        options = workflow.ChildOptions(workflow_id="left-behind", parent_close=policy)
        await workflow.start_child(Sleeper, options=options)


@workflow.defn()
class Hasty:
    """Starts a child and ends before the child has started."""

    @workflow.run
    async def run(self, policy: workflow.ParentClosePolicy) -> None:
        options = workflow.ChildOptions(workflow_id="taken", parent_close=policy)
        workflow.start(workflow.start_child(Sleeper, options=options))
        await workflow.sleep(0)


@workflow.defn()
class Dynasty:
    """Abandons a child, continues as new, and waits for the second child."""

    @workflow.run
    async def run(self, generation: int = 1) -> list[str]:
        name = f"child-{generation}"
        options = workflow.ChildOptions(
            workflow_id=name, parent_close=workflow.ParentClosePolicy.ABANDON
        )
        child = await workflow.start_child(Basket, options=options)
        if generation == 1:
            workflow.continue_as_new(2)
        return list(await child)


@workflow.defn()
class Sleeper:
    """Sleeps; runs an activity when the sleep is cancelled."""

    @workflow.run
    async def run(self, seconds: float = 86_400.0) -> str:
        workflow.upsert_search_attributes({"mood": "sleepy"})
        try:
            await workflow.sleep(seconds)
        except workflow.CancelledError:
            await workflow.execute_activity("work", "tidy", options=THRICE)
            raise
        return "slept"


@workflow.defn()
class Counting:
    """Continues as new ``remaining`` times."""

    @workflow.run
    async def run(self, remaining: int) -> str:
        if remaining:
            workflow.continue_as_new(remaining - 1)
        return workflow.info().continued_run_id


@workflow.defn()
class Relay:
    """Continues as new ``remaining`` times; the last run sleeps."""

    def __init__(self) -> None:
        self.remaining = 0

    @workflow.run
    async def run(self, remaining: int) -> None:
        self.remaining = remaining
        if remaining:
            workflow.continue_as_new(remaining - 1)
        await workflow.sleep(86_400)

    @workflow.query
    def left(self) -> int:
        return self.remaining


@workflow.defn()
class Courier:
    """Sends two signals to a ``Basket``."""

    @workflow.run
    async def run(self, workflow_id: str) -> str:
        target = workflow.external("Basket", workflow_id)
        try:
            await target.signal("put", "parcel")
            await target.signal("close")
        except ApplicationError as error:
            return type(error).__name__
        return "delivered"


@workflow.defn()
class Endless:
    """Sleeps in an endless loop."""

    @workflow.run
    async def run(self) -> None:
        while True:
            await workflow.sleep(0.001)


@workflow.defn()
class Greedy:
    """Passes a word of ``size`` characters to an activity."""

    @workflow.run
    async def run(self, size: int) -> int:
        return len(str(await workflow.execute_activity("work", "x" * size, options=THRICE)))


@workflow.defn()
class Deadly:
    """Runs the activity ``deadly`` of the test, which kills the worker."""

    @workflow.run
    async def run(self, attempts: int) -> None:
        policy = workflow.RetryPolicy(
            initial_interval_s=0.01, maximum_attempts=attempts, pause_when_exhausted=True
        )
        options = workflow.ActivityOptions(start_to_close_s=20, retry=policy)
        await workflow.execute_activity("deadly", options=options)


def sample_registry(activities: SampleActivities, *more: Callable[..., object]) -> Registry:
    return Registry(
        [
            *(Chain, Poisoned, Waiting, Basket, Parent, Forgetful, Sleeper, Counting, Courier),
            *(Endless, Greedy, Steady, Deadly, Dynasty, Hasty, Tally, Companion, Relay, Saga),
        ],
        [
            activities.work,
            activities.poison,
            activities.wait,
            activities.work_or_wait,
            activities.climb,
            *more,
        ],
    )
