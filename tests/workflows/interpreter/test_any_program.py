"""Random programs issue the same commands from a cached interpreter and in every replay."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.engine.store.records import decode_history, encode_history
from workflows.interpreter import Interpreter
from workflows.model.errors import ApplicationError
from workflows.model.events import HistoryEvent, WorkflowTaskStarted
from workflows.model.history_json import from_json, to_json
from workflows.testing import WorkflowEnvironment, replay

QUICK = workflow.ActivityOptions(start_to_close_s=60)
Program = list[Any]
"""A list of steps. A step is ``[kind, number]`` or ``[kind, number, program]``."""


@activity.defn()
def flaky(number: int) -> int:
    if number % 5 == 0:
        raise ApplicationError("never", non_retryable=True)
    if number % 3 == 0 and activity.info().attempt < 2:
        raise OSError("not yet")
    return number


@workflow.defn()
class AnyProgram:
    def __init__(self) -> None:
        self.results: list[Any] = []
        self.signals = 0

    @workflow.run
    async def run(self, program: Program) -> list[Any]:
        await self.do(program)
        return self.results

    @workflow.signal
    async def poke(self) -> None:
        self.signals += 1
        await workflow.sleep(1)
        self.results.append(["random", workflow.random().randrange(10)])

    async def do(self, program: Program) -> None:
        for step in program:
            self.results.append(await self.step(*step))

    async def step(self, kind: str, number: int, inner: Program = []) -> Any:  # noqa: B006
        try:
            match kind:
                case "activity":
                    return await workflow.execute_activity(flaky, number, options=QUICK)
                case "sleep":
                    return await workflow.sleep(number)
                case "patch":
                    return workflow.patched(f"patch-{number}")
                case "signals":
                    return await workflow.wait_condition(lambda: self.signals >= number, number)
                case "both":
                    return await workflow.gather(self.do(inner), workflow.sleep(number))
                case "bounded":
                    return await workflow.wait_for(self.do(inner), number)
                case "cancelled":
                    task = workflow.start(self.do(inner))
                    await workflow.sleep(number)
                    task.cancel()
                    return await task
                case "child" if inner:
                    return await workflow.execute_child(AnyProgram, inner[1:])
        except (workflow.ActivityError, workflow.TimeoutError) as error:
            return type(error).__name__
        except workflow.CancelledError:
            return "cancelled"
        return None


REGISTRY = Registry([AnyProgram], [flaky])
SIMPLE = st.tuples(
    st.sampled_from(["activity", "sleep", "patch", "signals"]), st.integers(0, 9)
).map(list)


def nested(programs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = st.sampled_from(["both", "bounded", "cancelled", "child"])
    return st.tuples(kinds, st.integers(0, 9), st.lists(programs, max_size=3)).map(list)


PROGRAMS = st.lists(st.recursive(SIMPLE, nested, max_leaves=8), max_size=5)


async def histories_of(
    program: Program, pokes: list[int], *, replays: bool
) -> list[list[HistoryEvent]]:
    """Run a program, and send a signal after each pause in ``pokes`` (seconds).

    Returns the history of the newest run of each execution.
    """
    async with WorkflowEnvironment(REGISTRY, replays=replays) as env:
        handle = await env.start(AnyProgram, program)
        for pause_s in pokes:
            await env.advance(pause_s)
            if (await handle.status()).open:
                await handle.signal("poke")
        await handle.result()
        heads = [head async for head in env.visibility.heads()]
        return [list(await env.handle(head.workflow_id).history()) for head in heads]


RANDOM_VALUES = re.compile(r"""[0-9a-f]{32}|worker\.[0-9a-f]{8}|"random",\s*[0-9]""")
"""Values that differ between two executions: run ids, names of workers, random numbers."""


def without_random_values(history: list[HistoryEvent]) -> str:
    return RANDOM_VALUES.sub("*", to_json(history))


@settings(max_examples=40)
@given(PROGRAMS, st.lists(st.integers(0, 6), max_size=3))
def test_a_cached_interpreter_and_a_replay_issue_the_same_commands(
    program: Program, pokes: list[int]
) -> None:
    cached = asyncio.run(histories_of(program, pokes, replays=False))
    replayed = asyncio.run(histories_of(program, pokes, replays=True))
    assert [*map(without_random_values, cached)] == [*map(without_random_values, replayed)]

    for history in cached:
        assert decode_history(encode_history(history)) == history
        for event in history:
            if isinstance(event.attributes, WorkflowTaskStarted):
                replay(REGISTRY, history[: event.event_id - 1])
        interpreter = Interpreter(REGISTRY)
        interpreter.activate(from_json(to_json(history)))
        interpreter.check_complete()
        assert interpreter.closed
        interpreter.close()
