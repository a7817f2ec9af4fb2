"""A session ends and reports it, however the renewal of its lease ends."""

from __future__ import annotations

import pytest

from core.errors import StoreRejected
from core.eventstore.keys import Keys
from core.eventstore.memory import MemoryStore
from tests.support.engine_harness import within
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.session import open_session


class RefusingStore(MemoryStore):
    """A store that does not renew leases."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def keep_lease(self, lease: int) -> int:
        raise self._error


@pytest.mark.parametrize("error", [StoreRejected("permission denied"), RuntimeError("a bug")])
async def test_a_lease_that_cannot_be_renewed_ends_the_session(error: Exception) -> None:
    store = RefusingStore(error)
    session = await open_session(store, WorkflowKeys(Keys("test")), "one", ttl_s=1)

    await within(session.lost.wait())
    assert session.lost.is_set()
    await store.close()
