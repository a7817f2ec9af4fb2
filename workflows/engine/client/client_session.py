"""The session of a client: opened with its first write, and again after it was lost.

Between calls a client keeps a lease alive, under which replies to it are written. The outcome of
what was in flight when a session was lost is unknown (OutcomeUnknown); nothing is written twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.errors import OutcomeUnknown, SessionLost
from core.eventstore.batch import Lost
from core.eventstore.group_commit import Committed, Outcome
from core.eventstore.kv import Guard, KeyValueStore, Write
from workflows.engine.store.committer import Committer
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.session import CLIENT_TTL_S, WorkerSession, open_session


class ClientSession:
    """The writes of one client, which is named ``name``."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys, name: str) -> None:
        self._store = store
        self._keys = keys
        self._name = name
        self._current: tuple[WorkerSession, Committer] | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Wait for writes in flight, and revoke the lease."""
        if self._current is not None:
            session, committer = self._current
            await committer.close()
            await session.close()

    async def lease(self) -> int:
        """The lease under which replies to this client are written. Raises StoreUnavailable."""
        session, _ = await self._ready()
        return session.lease

    async def propose(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Outcome:
        """One transaction. Raises StoreUnavailable, OutcomeUnknown, StoreRejected."""
        _, committer = await self._ready()
        try:
            outcome: Committed | Lost = await committer.propose(guards, writes)
        except SessionLost as error:
            raise OutcomeUnknown(
                "the client's session was lost before the store confirmed the write",
                subject=error.subject,
                remedy="check whether it was written before you repeat it",
            ) from error
        return outcome

    async def _ready(self) -> tuple[WorkerSession, Committer]:
        async with self._opening:
            if self._current is None or self._current[0].lost.is_set():
                session = await open_session(
                    self._store, self._keys, self._name, ttl_s=CLIENT_TTL_S
                )
                self._current = session, Committer(self._store, session)
            return self._current
