"""Children, resets, long histories, retention."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from core.eventstore.kv import Get, Put
from tests.workflows.engine.sample import (
    Basket,
    Chain,
    Companion,
    Dynasty,
    Forgetful,
    Hasty,
    Parent,
    Sleeper,
)
from tests.workflows.engine.stage import Stage, eventually, within
from workflows.engine.client.client import WorkflowHandle
from workflows.engine.client.visibility import Visibility
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import read_history
from workflows.engine.store.keys import shard_of
from workflows.engine.worker.retention import Archive
from workflows.engine.worker.worker import WorkerOptions
from workflows.model.policies import ExecutionStatus, ParentClosePolicy


async def test_a_parent_gets_the_result_of_its_child(stage: Stage) -> None:
    await stage.worker()

    assert await stage.run(Parent, "child") == ["A", "B"]
    assert (await stage.head("child")).status is ExecutionStatus.COMPLETED


async def test_a_child_whose_id_is_taken_fails_in_the_parent(stage: Stage) -> None:
    await stage.worker()
    await stage.client.start(Basket, id="child")

    assert await stage.run(Parent, "child") in (["ChildWorkflowError"], ["ApplicationError"])


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (ParentClosePolicy.TERMINATE, ExecutionStatus.TERMINATED),
        (ParentClosePolicy.REQUEST_CANCEL, ExecutionStatus.CANCELED),
        (ParentClosePolicy.ABANDON, ExecutionStatus.RUNNING),
    ],
)
async def test_a_child_ends_with_its_parent_as_was_promised(
    stage: Stage, policy: ParentClosePolicy, status: ExecutionStatus
) -> None:
    await stage.worker()
    await stage.run(Forgetful, policy)

    assert (await stage.until_status("left-behind", status)).status is status


@pytest.mark.parametrize("policy", [ParentClosePolicy.TERMINATE, ParentClosePolicy.REQUEST_CANCEL])
async def test_whoever_has_the_id_that_a_child_wanted_does_not_end_with_the_parent(
    stage: Stage, policy: ParentClosePolicy
) -> None:
    await stage.worker()
    basket = await stage.client.start(Basket, id="taken")
    await stage.run(Hasty, policy)
    await basket.signal("put", "thing")
    await basket.signal("close")

    assert await within(basket.result()) == ["thing"]


async def test_a_child_that_never_told_of_its_start_ends_with_its_parent(stage: Stage) -> None:
    await stage.worker()
    await stage.run(Hasty, ParentClosePolicy.TERMINATE)

    async def ended() -> list[ExecutionStatus]:
        found = await stage.visibility.newest_first()
        return [one.status for one in found if one.workflow_id == "taken" and not one.is_open]

    assert await eventually(ended) == [ExecutionStatus.TERMINATED]


async def test_a_child_of_an_earlier_run_is_not_taken_for_one_of_the_present_run(
    stage: Stage,
) -> None:
    await stage.worker()
    handle = await stage.client.start(Dynasty, id="parent")
    await eventually(lambda: _has(stage, handle, "child-2"))
    for name, thing in (("child-1", "old"), ("child-2", "new")):
        await stage.client.signal(name, "put", thing)
        await stage.client.signal(name, "close")
        await within(stage.client.result(name))

    assert await within(handle.result()) == ["new"]


async def _has(stage: Stage, handle: WorkflowHandle, child: str) -> bool:
    """Whether the newest run of a parent has been told that its child has started."""
    found = (await stage.head(handle.workflow_id)).children
    return any(one.workflow_id == child and one.run_id for one in found)


async def test_a_run_that_was_reset_hears_of_the_children_it_still_waits_for(stage: Stage) -> None:
    await stage.worker()
    handle = await stage.client.start(Dynasty, 2, id="parent")
    await eventually(lambda: _has(stage, handle, "child-2"))
    started = [e.event_id for e in await stage.history(handle) if "TaskStarted" in e.event_type]
    new_run = await stage.client.reset("parent", started[-1], reason="to see")
    await stage.client.signal("child-2", "put", "thing")
    await stage.client.signal("child-2", "close")

    assert await within(stage.client.result("parent", new_run)) == ["thing"]


async def test_a_reset_does_everything_after_a_point_again(stage: Stage) -> None:
    await stage.worker()
    handle = await stage.client.start(Chain, ["a", "b"], id="one")
    await within(handle.result())
    tasks = [
        event.event_id
        for event in await stage.history(handle)
        if event.event_type == "WorkflowTaskStarted"
    ]
    new_run = await stage.client.reset("one", tasks[1], reason="b was wrong")

    assert await within(stage.client.result("one", new_run)) == ["A", "B"]
    assert stage.world.calls == ["a", "b", "b"]


async def test_a_reset_ends_the_open_run_and_keeps_later_signals(stage: Stage) -> None:
    await stage.worker()
    handle = await stage.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    await eventually(lambda: _signalled(stage))
    new_run = await stage.client.reset("one", 1)
    await eventually(lambda: _is_run(stage, new_run))
    await handle.signal("close")

    assert await within(stage.client.result("one", new_run)) == ["thing"]
    assert (await stage.head("one", handle.run_id)).status is ExecutionStatus.TERMINATED


async def test_a_run_that_was_reset_has_the_activities_it_waits_for_done_again(
    stage: Stage,
) -> None:
    await stage.worker()
    handle = await stage.client.start(Companion, id="one")
    await within(stage.world.begun.wait())
    await handle.signal("tell")

    async def told() -> bool:
        return (await stage.types(handle)).count("WorkflowTaskStarted") == 2

    await eventually(told)
    stage.world.begun.clear()
    new_run = await stage.client.reset("one", (await stage.head("one")).next_event_id)
    await within(stage.world.begun.wait())
    stage.world.gate.set()

    assert await within(stage.client.result("one", new_run)) == "waited"


async def _signalled(stage: Stage) -> bool:
    return (await stage.head("one")).signals == 1


async def _is_run(stage: Stage, run_id: str) -> bool:
    return (await stage.head("one")).run_id == run_id


async def test_closed_executions_leave_the_store_and_stay_readable(
    stage: Stage, tmp_path: Path
) -> None:
    files = ExecutionFiles(tmp_path)
    archive = Archive(files, retention_s=0.0, sweep_s=0.02)
    await stage.worker(options=WorkerOptions(archive=archive))
    handle = await stage.client.start(Chain, ["a"], id="one")
    await within(handle.result())
    keys = stage.client.keys

    async def gone() -> bool:
        return not await read_history(stage.store, keys, "one", handle.run_id)

    await eventually(gone)
    head, events = await Visibility(stage.store, keys, files).history("one", handle.run_id)
    assert head.result == ["A"]
    assert events[-1].event_type == "WorkflowExecutionCompleted"


async def test_a_history_that_nobody_can_read_keeps_no_other_from_the_archive(
    stage: Stage, tmp_path: Path
) -> None:
    worker = await stage.worker()
    keys = stage.client.keys
    broken = await stage.client.start(Chain, ["a"], id="broken")
    await within(broken.result())
    key = keys.event("broken", broken.run_id, 1)
    (whole,) = (await stage.store.read([Get(key)])).ranges[0].kvs
    await stage.store.commit([], [Put(key, b"dust")])
    await worker.close()
    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.02)
    await stage.worker(options=WorkerOptions(archive=archive))
    beside = next(name for name in map(str, count()) if shard_of(name) == shard_of("broken"))
    await stage.run(Chain, ["a"], id=beside)

    async def gone() -> bool:
        left = await stage.visibility.newest_first()
        return [head.workflow_id for head in left] == ["broken"]

    assert await eventually(gone)
    await stage.store.commit([], [Put(key, whole.value)])


async def test_an_open_execution_is_never_archived(stage: Stage, tmp_path: Path) -> None:
    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.01)
    await stage.worker(options=WorkerOptions(archive=archive))
    await stage.client.start(Sleeper, id="open")
    for number in range(3):
        await stage.run(Chain, ["a"], id=f"closed-{number}")

    async def archived() -> bool:
        return len(list(tmp_path.glob("*/*.zst"))) == 3

    await eventually(archived)
    assert (await stage.head("open")).status is ExecutionStatus.RUNNING
