"""The writes of a client: its session, the start of an execution, and the limit of an inbox.

The session is opened with the first write, and again after it was lost. Between calls a client
keeps a lease alive, under which replies to it are written. The outcome of what was in flight when a
session was lost is unknown (OutcomeUnknown); nothing is written twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from core.errors import AlreadyStarted, DeadlineExceeded, OutcomeUnknown, SessionLost
from core.eventstore.batch import Lost
from core.eventstore.group_commit import Committed, Outcome
from core.eventstore.kv import (
    Absent,
    Get,
    Guard,
    KeyValue,
    KeyValueStore,
    NothingNewer,
    Put,
    Write,
)
from workflows.engine.client.completions import Completions
from workflows.engine.clock import Clock
from workflows.engine.run.undeliverable_messages import reuse_allowed
from workflows.engine.store.history_reader import closed_heads, head_of
from workflows.engine.store.keys import WorkflowKeys, new_id
from workflows.engine.store.records import (
    HEAD,
    Message,
    Signal,
    Start,
    Terminate,
    encode_message,
    reserved_head,
)
from workflows.engine.store.session import CLIENT_TTL_S, Committer, WorkerSession, open_session
from workflows.model.errors import LimitExceeded
from workflows.model.events import SearchAttributes, WorkflowExecutionStarted
from workflows.model.payloads import Payload
from workflows.model.policies import IdConflictPolicy, IdReusePolicy

TERMINATE_S_MAX: Final = 10.0
"""Seconds that a start waits for the end of the run that it replaces."""

NO_WORKER: Final = "check with `orbctl workflow describe` that a worker owns the execution"


class StartOptions(NamedTuple):
    """Options of a start. Timeouts in seconds, 0: none. ``trigger``: id of the event behind it.

    ``traceparent``: the span that the start's is linked to, with ``link_attributes``.
    """

    reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    conflict: IdConflictPolicy = IdConflictPolicy.FAIL
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}  # noqa: RUF012 - never changed in place
    memo: dict[str, Payload] = {}  # noqa: RUF012 - never changed in place
    traceparent: str = ""
    trigger: str = ""
    link_attributes: Mapping[str, str] = {}


USE_EXISTING: Final = StartOptions(conflict=IdConflictPolicy.USE_EXISTING)
"""Start an execution unless it is open."""


class StartTransactions:
    """Starts executions for one client."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: WorkflowKeys,
        session: ClientSession,
        completions: Completions,
        clock: Clock,
        identity: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._session = session
        self._completions = completions
        self._clock = clock
        self._identity = identity

    async def try_start(
        self,
        started: WorkflowExecutionStarted,
        now_ms: int,
        options: StartOptions,
        signal: Signal | None,
    ) -> tuple[str, int] | None:
        """The run id that was started with its revision, or that was found with 0; None: try again.

        Raises AlreadyStarted, DeadlineExceeded, StoreUnavailable, OutcomeUnknown.
        """
        workflow_id = started.workflow_id
        key = self._keys.open(workflow_id)
        guards: list[Guard] = [Absent(key)]
        if options.reuse is not IdReusePolicy.ALLOW_DUPLICATE:
            guards.append(await self._check_reuse(workflow_id, options.reuse))
        writes: list[Write] = [Put(key, HEAD.encode(reserved_head(started, now_ms)))]
        messages: list[Message] = [Start(started, reserved=True, at_ms=now_ms)]
        if signal is not None:
            messages.append(signal)
            writes.append(Put(self._keys.signal_fence(workflow_id), b""))
        for order, message in enumerate(messages):
            inbox = self._keys.inbox(workflow_id, new_id(now_ms, order))
            writes.append(Put(inbox, encode_message(message)))
        outcome = await self._session.propose(guards, writes)
        if isinstance(outcome, Committed):
            return started.run_id, outcome.revision
        # A lost guard on a range returns no truth about other keys.
        stored = outcome.current.get(key) or await self._read(key)
        if stored is None:
            return None
        head = head_of(self._keys, stored)
        if options.conflict is IdConflictPolicy.USE_EXISTING:
            return head.run_id, 0
        if options.conflict is IdConflictPolicy.FAIL:
            raise AlreadyStarted(
                f"workflow {workflow_id} is already open",
                subject=workflow_id,
                remedy="use another id, or the conflict policy UseExisting",
                run_id=head.run_id,
            )
        reason = f"replaced by another execution with the id {workflow_id}"
        terminate = Terminate(reason, self._identity, head.run_id)
        inbox = self._keys.inbox(workflow_id, new_id(self._clock.now_ms()))
        await self._session.propose([], [Put(inbox, encode_message(terminate))])
        try:
            async with asyncio.timeout(TERMINATE_S_MAX):
                await self._completions.of(workflow_id, head.run_id)
        except TimeoutError:
            raise DeadlineExceeded(
                f"run {head.run_id} of {workflow_id} did not end within {TERMINATE_S_MAX:g} s",
                subject=workflow_id,
                remedy=NO_WORKER,
            ) from None
        return None

    async def _check_reuse(self, workflow_id: str, policy: IdReusePolicy) -> Guard:
        """A guard that no other run of the id has closed since. Raises AlreadyStarted."""
        start, end = self._keys.closed_runs(workflow_id)
        result = await self._store.read([Get(start, end)])
        closed = closed_heads(self._keys, result.ranges[0].kvs, workflow_id)
        last = max(closed, key=lambda head: head.closed_ms).status if closed else None
        if not reuse_allowed(policy, last):
            raise AlreadyStarted(
                f"workflow {workflow_id} is {last}, and the reuse policy is {policy.value}",
                subject=workflow_id,
                remedy="use another id, or another reuse policy",
            )
        return NothingNewer(start, end, result.revision)

    async def _read(self, key: bytes) -> KeyValue | None:
        stored = (await self._store.read([Get(key)])).ranges[0].kvs
        return stored[0] if stored else None


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


INBOX_MESSAGES_MAX = 1_000
"""Messages that wait for one execution; above it signals, queries and updates are rejected."""

INBOX_URGENT_MAX = INBOX_MESSAGES_MAX + 100
"""The same for requests to cancel, terminate, retry or reset the execution."""


def count_inbox(keys: WorkflowKeys, workflow_id: str) -> Get:
    """Counts the messages to an id, and to ids that start with it and a slash."""
    return Get(*keys.inbox_of(workflow_id), count_only=True)


async def check_inbox(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, most: int = INBOX_MESSAGES_MAX
) -> None:
    """Raises LimitExceeded when ``most`` messages wait already, StoreUnavailable."""
    if (await store.read([count_inbox(keys, workflow_id)])).ranges[0].count < most:
        return
    found = (await store.read([Get(*keys.inbox_of(workflow_id), keys_only=True)])).ranges[0].kvs
    count = sum(keys.inbox_parts(kv.key)[1] == workflow_id for kv in found)
    if count >= most:
        raise LimitExceeded(
            f"{count} messages wait for workflow {workflow_id}, INBOX_MESSAGES_MAX is {most}: "
            "check with `orbctl workflow describe` whether a worker owns it, and what blocks it"
        )
