"""A stored value that cannot be used stops only its own execution, and is listed as a fault.

The workflow ``Companion`` waits for the signal ``tell`` and for an activity, which waits for
``activities.gate``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec
import pytest

from core.errors import CallRejected
from core.eventstore.keys import key_text
from core.eventstore.kv import Delete, Get, KeyValueStore, Put, ReadResult
from core.eventstore.undecodable_values import ContainedFault
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Companion, Dynasty, Sleeper
from tests.support.faulty_store import FaultyStore
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.engine.client.handles import WorkflowHandle
from workflows.engine.run import execution, received_events, run_inbox
from workflows.engine.store import unusable_values
from workflows.engine.store.draft import HistoryDraft
from workflows.engine.store.keys import SHARD_COUNT, WorkflowKeys, new_id, shard_of
from workflows.engine.store.records import (
    ATTEMPT_CODEC,
    HEAD_CODEC,
    Attempt,
    ChildEvent,
    RunHead,
    decode_history,
    encode_history,
    encode_message,
)
from workflows.engine.worker import shard
from workflows.engine.worker.ownership import OWNER_RECORD, OwnerRecord
from workflows.engine.worker.worker import Worker
from workflows.model.policies import ExecutionStatus


class StoredValue(NamedTuple):
    """A kind of stored value. ``make_impossible`` returns a value that is decodable but invalid."""

    kind: str
    key: Callable[[WorkflowKeys, WorkflowHandle], bytes]
    make_impossible: Callable[[bytes], bytes]


def _head_with_another_id(value: bytes) -> bytes:
    return HEAD_CODEC.encode(HEAD_CODEC.decode(value)._replace(workflow_id="other"))


def _history_with_a_gap(value: bytes) -> bytes:
    first, *rest = decode_history(value)
    return encode_history([first._replace(event_id=9), *rest])


def _impossible_message(_: bytes) -> bytes:
    """Return a message about the end of a child that the execution has not started."""
    return encode_message(ChildEvent(1, "0" * 32, ExecutionStatus.FAILED))


STORED_VALUES = (
    StoredValue("open execution", lambda keys, _: keys.open("one"), _head_with_another_id),
    StoredValue(
        "history", lambda keys, handle: keys.event("one", handle.run_id, 1), _history_with_a_gap
    ),
    StoredValue(
        "activity attempt",
        lambda keys, handle: keys.attempt("one", handle.run_id, 1),
        lambda _: ATTEMPT_CODEC.encode(Attempt(-1)),
    ),
)
NEIGHBOUR = next(name for name in map(str, count()) if shard_of(name) == shard_of("one"))
"""The id of another execution in the shard of ``one``."""

UNREADABLE_VALUES = {
    "garbage": lambda _: b"\xc1dust",
    "no UTF-8": lambda _: b"\x92\x01\xa1\xff",
    "a newer version": lambda _: msgspec.msgpack.encode([99, "newer"]),
}


def _new_field(value: bytes) -> bytes:
    """Add a field to the head ``value``, or to an attempt if ``value`` is empty."""
    version, fields = msgspec.msgpack.decode(value) if value else (1, [1])
    known = list(RunHead._fields if value else Attempt._fields)
    return msgspec.msgpack.encode([version, [*fields, *([0] * (len(known) - len(fields))), "new"]])


def _new_event_type(value: bytes) -> bytes:
    (number, at_ms, _, attributes), *rest = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode([[number, at_ms, "WorkflowTeleported", attributes], *rest])


def _new_event_field(value: bytes) -> bytes:
    (number, at_ms, kind, attributes), *rest = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode([[number, at_ms, kind, [*attributes, "new"]], *rest])


def _corruptions(stored_value: StoredValue) -> dict[str, Callable[[bytes], bytes]]:
    if stored_value.kind == "history":
        newer = {"a new event type": _new_event_type, "a new field": _new_event_field}
    else:
        newer = {"a new field": _new_field}
    return {**UNREADABLE_VALUES, "impossible": stored_value.make_impossible, **newer}


CASES = [
    pytest.param(stored_value, corrupt, id=f"{stored_value.kind}: {name}")
    for stored_value in STORED_VALUES
    for name, corrupt in _corruptions(stored_value).items()
]


@pytest.fixture(autouse=True)
def _short_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unusable_values, "RETRY_UNUSABLE_S", 0.05)
    monkeypatch.setattr(shard, "RETRY_UNUSABLE_S", 0.05)


async def _wait_until_listed(worker: Worker, kind: str) -> ContainedFault:
    async def is_reported() -> ContainedFault | None:
        return next((fault for fault in worker.faults if fault.kind == kind), None)

    return await eventually(is_reported)


async def _wait_until_none_is_listed(worker: Worker) -> None:
    async def is_clear() -> bool:
        return not len(worker.faults)

    await eventually(is_clear)


@pytest.mark.parametrize(("stored_value", "corrupt"), CASES)
async def test_an_unusable_value_stops_its_execution_until_the_value_is_repaired(
    engine: EngineHarness, stored_value: StoredValue, corrupt: Callable[[bytes], bytes]
) -> None:
    first = await engine.start_worker()
    handle = await engine.client.start(Companion, id="one")
    await within(engine.activities.begun.wait())
    await engine.kill_worker(first)
    key = stored_value.key(engine.client.keys, handle)
    stored = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, corrupt(stored[0].value if stored else b""))])
    second = await engine.start_worker()

    assert await engine.run_workflow(Chain, ["a"], id=NEIGHBOUR) == ["A"]
    heads = [head async for head in engine.visibility.heads()]
    assert NEIGHBOUR in [head.workflow_id for head in heads]
    fault = await _wait_until_listed(second, stored_value.kind)
    assert key_text(engine.keys, key).startswith(fault.key)
    assert fault.why
    assert fault.remedy

    await engine.store.commit([], [Put(key, stored[0].value) if stored else Delete(key)])
    engine.activities.gate.set()
    await handle.signal("tell")
    assert await within(handle.result()) == "waited"
    await _wait_until_none_is_listed(second)


async def test_the_fault_of_a_history_names_its_first_gap(engine: EngineHarness) -> None:
    first = await engine.start_worker()
    handle = await engine.client.start(Companion, id="one")
    await within(engine.activities.begun.wait())
    await engine.kill_worker(first)
    key = engine.client.keys.event("one", handle.run_id, 1)
    (segment,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, _history_with_a_gap(segment.value))])
    second = await engine.start_worker()

    fault = await _wait_until_listed(second, "history")
    assert "expected event 1, got event 9" in fault.why
    await engine.store.commit([], [Put(key, segment.value)])


class _DelayingStore(FaultyStore):
    """A store that holds back reads of ``key``: each release of ``steps`` lets one read return."""

    def __init__(self, store: KeyValueStore) -> None:
        super().__init__(store)
        self.key = b""
        self.reads = 0
        self.steps = asyncio.Semaphore(0)

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        result = await super().read(gets, revision=revision)
        if self.key and gets[0].start == self.key:
            self.reads += 1
            await self.steps.acquire()
        return result

    async def has_read(self, count: int) -> bool:
        return self.reads >= count


async def test_a_signal_during_a_second_read_of_the_head_is_not_lost(
    engine: EngineHarness,
) -> None:
    first = await engine.start_worker()
    handle = await engine.client.start(Companion, id="one")
    await within(engine.activities.begun.wait())
    await engine.kill_worker(first)
    key = engine.client.keys.open("one")
    (stored,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"\xc1dust")])
    delaying_store = _DelayingStore(engine.store)
    second = await engine.start_worker(store=delaying_store)
    await _wait_until_listed(second, "open execution")

    delaying_store.key = key
    await eventually(partial(delaying_store.has_read, 1))
    await engine.store.commit([], [Put(key, stored.value)])
    delaying_store.steps.release()
    await eventually(partial(delaying_store.has_read, 2))
    engine.activities.gate.set()
    await handle.signal("tell")
    # The worker receives the signal before this execution completes.
    assert await engine.run_workflow(Chain, ["a"], id=NEIGHBOUR) == ["A"]
    for _ in range(10):
        delaying_store.steps.release()

    assert await within(handle.result()) == "waited"


@pytest.mark.parametrize(
    "corrupt",
    [*UNREADABLE_VALUES.values(), _impossible_message],
    ids=[*UNREADABLE_VALUES, "impossible"],
)
async def test_an_unusable_message_stays_in_the_inbox_and_is_listed(
    engine: EngineHarness, corrupt: Callable[[bytes], bytes]
) -> None:
    worker = await engine.start_worker()
    handle = await engine.client.start(Dynasty, 2, id="one")  # waits for its child ``child-2``

    async def has_a_child() -> bool:
        return any(child.run_id for child in (await engine.head("one")).children)

    await eventually(has_a_child)
    key = engine.client.keys.inbox("one", new_id(0))
    await engine.store.commit([], [Put(key, corrupt(b""))])
    fault = await _wait_until_listed(worker, "message")

    assert fault.key == key_text(engine.keys, key)
    await engine.client.signal("child-2", "put", "thing")
    await engine.client.signal("child-2", "close")
    assert await within(handle.result()) == ["thing"]
    await engine.store.commit([], [Delete(key)])
    await _wait_until_none_is_listed(worker)


@pytest.mark.parametrize("key", [b"wake/inbox/zz/one/1", b"wake/inbox/00/\xff", b"wake/owner/zz"])
async def test_an_unreadable_key_does_not_stop_the_worker(
    engine: EngineHarness, key: bytes
) -> None:
    stored = engine.client.keys.root + key
    worker = await engine.start_worker()
    await engine.store.commit([], [Put(stored, b"dust")])

    async def is_listed() -> bool:
        return bool(len(worker.faults))

    await eventually(is_listed)
    assert await engine.run_workflow(Chain, ["a"]) == ["A"]
    await engine.start_worker()
    assert await engine.run_workflow(Chain, ["a"], id="two") == ["A"]
    await engine.store.commit([], [Delete(stored)])


@pytest.mark.parametrize(
    "corrupt", [*UNREADABLE_VALUES.values(), lambda _: OWNER_RECORD.encode(OwnerRecord("other"))]
)
async def test_owner_and_worker_keys_without_a_lease_do_not_stop_the_worker(
    engine: EngineHarness, corrupt: Callable[[bytes], bytes]
) -> None:
    keys = engine.client.keys
    owner, worker_key = keys.owner(shard_of("one")), keys.worker("other-worker")
    await engine.store.commit([], [Put(owner, corrupt(b"")), Put(worker_key, corrupt(b""))])
    worker = await engine.start_worker()

    assert worker.shards == list(range(SHARD_COUNT))
    assert await engine.run_workflow(Chain, ["a"]) == ["A"]
    assert (await _wait_until_listed(worker, "worker")).key == key_text(engine.keys, worker_key)
    await engine.store.commit([], [Delete(worker_key)])


async def test_a_shard_whose_owner_key_is_overwritten_is_claimed_again(
    engine: EngineHarness,
) -> None:
    worker = await engine.start_worker()
    owner = engine.client.keys.owner(shard_of("one"))
    await engine.store.commit([], [Put(owner, b"dust")])

    assert await engine.run_workflow(Chain, ["a"]) == ["A"]
    await _wait_until_none_is_listed(worker)


async def test_a_worker_whose_session_key_is_overwritten_continues_in_a_new_session(
    engine: EngineHarness,
) -> None:
    worker = await engine.start_worker()
    assert worker.term is not None
    await engine.store.commit([], [Put(worker.term.session.key, b"dust")])

    assert await engine.run_workflow(Chain, ["a"]) == ["A"]
    assert worker.sessions == 2


async def test_a_worker_leaves_executions_of_an_unregistered_type_to_other_workers(
    engine: EngineHarness,
) -> None:
    old = await engine.start_worker(registry=Registry([Chain], [engine.activities.work]))
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    fault = await _wait_until_listed(old, "open execution")
    with pytest.raises(CallRejected, match="workflow type 'Basket' is not registered"):
        await handle.query("count")
    assert await engine.run_workflow(Chain, ["a"], id=NEIGHBOUR) == ["A"]
    assert "which has Chain" in fault.why
    head = await engine.head("one")
    assert (head.status, head.signals) == (ExecutionStatus.RUNNING, 1)

    await old.close()
    await engine.start_worker()
    await handle.signal("close")
    assert await within(handle.result()) == ["thing"]


@workflow.defn(name="Versioned")
class Before:
    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: False)
        return "before"


@workflow.defn(name="Versioned")
class After:
    def __init__(self) -> None:
        self._is_open = False

    @workflow.run
    async def run(self) -> str:
        workflow.patched("open")
        await workflow.wait_condition(lambda: self._is_open)
        return "after"

    @workflow.signal
    def open(self) -> None:
        self._is_open = True


async def test_old_code_leaves_executions_with_a_newer_patch_to_other_workers(
    engine: EngineHarness,
) -> None:
    new = await engine.start_worker(registry=Registry([After]))
    handle = await engine.client.start(After, id="one")
    await eventually(lambda: _has_marker(engine, handle))
    await new.close()
    old = await engine.start_worker(registry=Registry([Before]))
    await handle.signal("open")
    fault = await _wait_until_listed(old, "open execution")
    assert "patch" in fault.why
    assert (await engine.head("one")).status is ExecutionStatus.RUNNING

    await old.close()
    await engine.start_worker(registry=Registry([After]))
    assert await within(handle.result()) == "after"


async def _has_marker(engine: EngineHarness, handle: WorkflowHandle) -> bool:
    return "MarkerRecorded" in await engine.event_types(handle)


async def test_an_execution_of_an_unknown_type_can_be_terminated(engine: EngineHarness) -> None:
    worker = await engine.start_worker(registry=Registry([Chain], [engine.activities.work]))
    handle = await engine.client.start("bogus", id="one")
    await _wait_until_listed(worker, "open execution")
    await handle.terminate("never existed")

    assert (await engine.until_status("one", ExecutionStatus.TERMINATED)).reason == "never existed"
    await _wait_until_none_is_listed(worker)


async def test_a_bug_in_a_step_pauses_the_execution_with_the_reason(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "STEP_PAUSE_S", 0.001)
    shall_fail, record_fired = True, received_events.record_timer_fired

    def record_timer_fired(draft: HistoryDraft, timer_id: int) -> None:
        if shall_fail:
            raise RuntimeError("a bug")
        record_fired(draft, timer_id)

    monkeypatch.setattr(run_inbox, "record_timer_fired", record_timer_fired)
    worker = await engine.start_worker()
    handle = await engine.client.start(Sleeper, 0.01, id="one")
    head = await engine.until_status("one", ExecutionStatus.PAUSED)
    fault = await _wait_until_listed(worker, "open execution")

    assert "a bug" in head.reason
    assert "a bug" in fault.why
    shall_fail = False
    await engine.client.retry("one")
    assert await within(handle.result()) == "slept"
    await _wait_until_none_is_listed(worker)
