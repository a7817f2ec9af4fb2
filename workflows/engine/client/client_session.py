"""The session of a client: opened when it writes first, and anew after one was lost.

A client keeps nothing alive between its calls but a lease, under which its answers lie. What was
under way when a session was lost is unknown, and said so; nothing is written twice.
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
    """Writes for one client, under ``name``."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys, name: str) -> None:
        self._store = store
        self._keys = keys
        self._name = name
        self._living: tuple[WorkerSession, Committer] | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Wait for what is under way, and give the lease back."""
        if self._living is not None:
            session, committer = self._living
            await committer.close()
            await session.close()

    async def lease(self) -> int:
        """The lease under which answers to this client lie. Raises StoreUnavailable."""
        session, _ = await self._ready()
        return session.lease

    async def propose(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Outcome:
        """One transaction. Raises StoreUnavailable, OutcomeUnknown, StoreRejected."""
        _, committer = await self._ready()
        try:
            outcome: Committed | Lost = await committer.propose(guards, writes)
        except SessionLost as error:
            raise OutcomeUnknown(
                "the store was away for too long to know whether this was written",
                subject=error.subject,
                remedy="look before you repeat it",
            ) from error
        return outcome

    async def _ready(self) -> tuple[WorkerSession, Committer]:
        async with self._opening:
            if self._living is None or self._living[0].lost.is_set():
                session = await open_session(
                    self._store, self._keys, self._name, ttl_s=CLIENT_TTL_S
                )
                self._living = session, Committer(self._store, session)
            return self._living
