"""Child workflows, resets, and the archiving of closed executions.

The workflow ``Parent`` runs a ``Chain``, which returns its words in upper case. ``Forgetful`` ends
while its child runs. ``Hasty`` ends before its child has started. ``Dynasty`` starts ``child-1``,
continues as new, starts ``child-2`` and returns the result of ``child-2``. ``Companion`` waits for
a signal while its activity ``wait`` runs.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from core.eventstore.kv import Get, Put
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import (
    Basket,
    Chain,
    Companion,
    Dynasty,
    Forgetful,
    Hasty,
    Parent,
    Sleeper,
)
from workflows.engine.client.handles import WorkflowHandle
from workflows.engine.client.visibility import Visibility
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import read_history
from workflows.engine.store.keys import shard_of
from workflows.engine.worker.retention import Archive
from workflows.engine.worker.worker import WorkerOptions
from workflows.model.policies import ExecutionStatus, ParentClosePolicy


async def test_a_parent_gets_the_result_of_its_child(engine: EngineHarness) -> None:
    await engine.start_worker()

    assert await engine.run_workflow(Parent, "child") == ["A", "B"]
    assert (await engine.head("child")).status is ExecutionStatus.COMPLETED


async def test_a_parent_gets_an_error_if_the_id_of_its_child_is_in_use(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.client.start(Basket, id="child")

    # ``Parent`` returns the type of the error.
    assert await engine.run_workflow(Parent, "child") in (
        ["ChildWorkflowError"],
        ["ApplicationError"],
    )


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (ParentClosePolicy.TERMINATE, ExecutionStatus.TERMINATED),
        (ParentClosePolicy.REQUEST_CANCEL, ExecutionStatus.CANCELED),
        (ParentClosePolicy.ABANDON, ExecutionStatus.RUNNING),
    ],
)
async def test_the_close_policy_decides_the_status_of_the_child(
    engine: EngineHarness, policy: ParentClosePolicy, status: ExecutionStatus
) -> None:
    await engine.start_worker()
    await engine.run_workflow(Forgetful, policy)

    assert (await engine.until_status("left-behind", status)).status is status


@pytest.mark.parametrize("policy", [ParentClosePolicy.TERMINATE, ParentClosePolicy.REQUEST_CANCEL])
async def test_an_unrelated_execution_with_the_id_of_a_child_outlives_the_parent(
    engine: EngineHarness, policy: ParentClosePolicy
) -> None:
    await engine.start_worker()
    basket = await engine.client.start(Basket, id="taken")
    await engine.run_workflow(Hasty, policy)
    await basket.signal("put", "thing")
    await basket.signal("close")

    assert await within(basket.result()) == ["thing"]


async def test_a_child_is_terminated_although_its_parent_ended_before_the_child_started(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.run_workflow(Hasty, ParentClosePolicy.TERMINATE)

    async def closed_statuses() -> list[ExecutionStatus]:
        heads = await engine.visibility.newest_first()
        return [head.status for head in heads if head.workflow_id == "taken" and not head.is_open]

    assert await eventually(closed_statuses) == [ExecutionStatus.TERMINATED]


async def test_a_run_ignores_events_of_an_earlier_runs_child(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Dynasty, id="parent")
    await eventually(lambda: _child_has_started(engine, handle, "child-2"))
    for name, thing in (("child-1", "old"), ("child-2", "new")):
        await engine.client.signal(name, "put", thing)
        await engine.client.signal(name, "close")
        await within(engine.client.result(name))

    assert await within(handle.result()) == ["new"]


async def _child_has_started(engine: EngineHarness, handle: WorkflowHandle, child: str) -> bool:
    children = (await engine.head(handle.workflow_id)).children
    return any(record.workflow_id == child and record.run_id for record in children)


async def test_a_reset_run_gets_the_events_of_its_pending_children(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Dynasty, 2, id="parent")  # starts only ``child-2``
    await eventually(lambda: _child_has_started(engine, handle, "child-2"))
    task_event_ids = [
        event.event_id
        for event in await engine.history(handle)
        if event.event_type == "WorkflowTaskStarted"
    ]
    new_run = await engine.client.reset("parent", task_event_ids[-1], reason="to see")
    await engine.client.signal("child-2", "put", "thing")
    await engine.client.signal("child-2", "close")

    assert await within(engine.client.result("parent", new_run)) == ["thing"]


async def test_a_reset_repeats_the_activities_after_the_event(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a", "b"], id="one")
    await within(handle.result())
    task_event_ids = [
        event.event_id
        for event in await engine.history(handle)
        if event.event_type == "WorkflowTaskStarted"
    ]
    # The second task follows the activity ``a``.
    new_run = await engine.client.reset("one", task_event_ids[1], reason="b was wrong")

    assert await within(engine.client.result("one", new_run)) == ["A", "B"]
    assert engine.activities.calls == ["a", "b", "b"]


async def test_a_reset_ends_the_open_run_and_keeps_later_signals(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    await eventually(lambda: _has_a_signal(engine))
    new_run = await engine.client.reset("one", event_id=1)
    await eventually(lambda: _is_run(engine, new_run))
    await handle.signal("close")

    assert await within(engine.client.result("one", new_run)) == ["thing"]
    assert (await engine.head("one", handle.run_id)).status is ExecutionStatus.TERMINATED


async def test_a_reset_run_starts_its_pending_activities_again(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Companion, id="one")
    await within(engine.activities.begun.wait())
    await handle.signal("tell")

    async def signal_is_processed() -> bool:
        return (await engine.event_types(handle)).count("WorkflowTaskStarted") == 2

    await eventually(signal_is_processed)
    engine.activities.begun.clear()
    last_event_id = (await engine.head("one")).next_event_id - 1
    new_run = await engine.client.reset("one", last_event_id)
    await within(engine.activities.begun.wait())
    engine.activities.gate.set()

    assert await within(engine.client.result("one", new_run)) == "waited"


async def _has_a_signal(engine: EngineHarness) -> bool:
    return (await engine.head("one")).signals == 1


async def _is_run(engine: EngineHarness, run_id: str) -> bool:
    return (await engine.head("one")).run_id == run_id


async def test_closed_executions_leave_the_store_and_stay_readable(
    engine: EngineHarness, tmp_path: Path
) -> None:
    files = ExecutionFiles(tmp_path)
    archive = Archive(files, retention_s=0.0, sweep_s=0.02)
    await engine.start_worker(options=WorkerOptions(archive=archive))
    handle = await engine.client.start(Chain, ["a"], id="one")
    await within(handle.result())
    keys = engine.client.keys

    async def is_removed() -> bool:
        return not await read_history(engine.store, keys, "one", handle.run_id)

    await eventually(is_removed)
    head, events = await Visibility(engine.store, keys, files).history("one", handle.run_id)
    assert head.result == ["A"]
    assert events[-1].event_type == "WorkflowExecutionCompleted"


async def test_archiving_continues_after_an_unreadable_history(
    engine: EngineHarness, tmp_path: Path
) -> None:
    worker = await engine.start_worker()
    keys = engine.client.keys
    unreadable = await engine.client.start(Chain, ["a"], id="broken")
    await within(unreadable.result())
    key = keys.event("broken", unreadable.run_id, 1)
    (segment,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"dust")])
    await worker.close()
    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.02)
    await engine.start_worker(options=WorkerOptions(archive=archive))
    neighbour = next(name for name in map(str, count()) if shard_of(name) == shard_of("broken"))
    await engine.run_workflow(Chain, ["a"], id=neighbour)

    async def is_removed() -> bool:
        heads = await engine.visibility.newest_first()
        return [head.workflow_id for head in heads] == ["broken"]

    assert await eventually(is_removed)
    await engine.store.commit([], [Put(key, segment.value)])


async def test_an_open_execution_is_never_archived(engine: EngineHarness, tmp_path: Path) -> None:
    archive = Archive(ExecutionFiles(tmp_path), retention_s=0.0, sweep_s=0.01)
    await engine.start_worker(options=WorkerOptions(archive=archive))
    await engine.client.start(Sleeper, id="open")
    for number in range(3):
        await engine.run_workflow(Chain, ["a"], id=f"closed-{number}")

    async def are_archived() -> bool:
        return len(list(tmp_path.glob("*/*.zst"))) == 3

    await eventually(are_archived)
    assert (await engine.head("open")).status is ExecutionStatus.RUNNING
