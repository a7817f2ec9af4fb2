"""A worker handles many changes that its watch delivers at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Guard, TxnResult, Write
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import Basket
from workflows.engine.store.keys import WorkflowKeys
from workflows.model.policies import ExecutionStatus

EXECUTIONS = 60
COMMIT_S = 0.002


class SlowStore(MemoryStore):
    """A store whose commits take time, as in etcd, so that the worker groups writes."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_transactions = 0

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        result = await super().commit(guards, writes, otherwise)
        self.lost_transactions += not result.succeeded
        await asyncio.sleep(COMMIT_S)
        return result


async def test_concurrent_signals_that_close_many_executions_lose_no_transaction() -> None:
    store = SlowStore()
    engine = EngineHarness(store)
    await engine.start_worker()
    # A ``Basket`` without things returns [] after the signal ``close``.
    starts = (engine.client.start(Basket, id=f"basket-{number}") for number in range(EXECUTIONS))
    handles = await asyncio.gather(*starts)
    for handle in handles:
        await engine.until_status(handle.workflow_id, ExecutionStatus.RUNNING)
    lost_before = store.lost_transactions

    await asyncio.gather(*(handle.signal("close") for handle in handles))
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [[]] * EXECUTIONS
    assert store.lost_transactions == lost_before
    await engine.close()
    await store.close()


def test_the_signal_fence_of_an_execution_sorts_directly_after_its_messages() -> None:
    """Each signal rewrites the fence; the transaction that closes a run compares the fence."""
    keys = WorkflowKeys(Keys("test"))
    ordered = [
        keys.inbox("a", "0" * 32),
        keys.inbox("a", "f" * 32),
        keys.signal_fence("a"),
    ]
    others = [keys.inbox("a/b", "0" * 32), keys.signal_fence("a/b"), keys.owner(1)]

    sorted_keys = sorted([*reversed(ordered), *others], key=keys.wake_order)

    assert [key for key in sorted_keys if key in ordered] == ordered
    prefixes = {keys.wake_order(key).rpartition(b"/")[0] for key in ordered}
    assert len(prefixes) == 1, "the keys of one execution have different prefixes"
