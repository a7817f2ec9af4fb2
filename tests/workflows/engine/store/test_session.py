"""A failed renewal of the lease ends the session, and renewals run outside every trace."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import StoreRejected
from core.eventstore.keys import Keys
from core.eventstore.memory_store import MemoryStore
from core.process import tracing
from tests.support.engine_harness import within
from tests.support.spans import recorded_spans
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.session import ClientSession, open_session


class RefusingStore(MemoryStore):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def keep_lease(self, lease: int) -> int:
        raise self._error


class ObservingStore(MemoryStore):
    """A store that records the current span of the first renewal of a lease."""

    def __init__(self) -> None:
        super().__init__()
        self.renewal_span: asyncio.Future[tracing.Span | None] = asyncio.Future()

    async def keep_lease(self, lease: int) -> int:
        if not self.renewal_span.done():
            self.renewal_span.set_result(tracing.current_span())
        return await super().keep_lease(lease)


class EndedLeaseStore(MemoryStore):
    """A store whose first lease ends before its first use, as if the process was paused."""

    def __init__(self) -> None:
        super().__init__()
        self.granted: list[int] = []

    async def grant_lease(self, ttl_s: int) -> int:
        lease = await super().grant_lease(ttl_s)
        if not self.granted:
            await self.revoke_lease(lease)
        self.granted.append(lease)
        return lease


async def test_a_client_session_opens_after_its_first_lease_ended_before_the_commit() -> None:
    store = EndedLeaseStore()
    session = ClientSession(store, WorkflowKeys(Keys("test")), "client")

    assert await session.lease() == store.granted[1]

    await session.close()
    await store.close()


@pytest.mark.parametrize("error", [StoreRejected("permission denied"), RuntimeError("a bug")])
async def test_a_lease_that_cannot_be_renewed_ends_the_session(error: Exception) -> None:
    store = RefusingStore(error)
    session = await open_session(store, WorkflowKeys(Keys("test")), "one", ttl_s=1)

    await within(session.lost.wait())
    assert session.lost.is_set()
    await store.close()


async def test_renewals_are_not_part_of_the_trace_that_opened_the_session() -> None:
    store = ObservingStore()
    with recorded_spans(), tracing.span("QueryWorkflow:count"):
        session = await open_session(store, WorkflowKeys(Keys("test")), "one", ttl_s=1)
        renewal_span = await within(store.renewal_span)

    assert renewal_span is None
    await session.close()
    await store.close()
