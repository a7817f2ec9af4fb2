"""The calls of a client as transactions: the innermost link of the client's chain.

Every message has its own key, so clients do not contend. Every accepted signal is recorded: a
signal fails once the run is closed, and a run closes only if its signal fence, a key that every
signal rewrites, is unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from core.errors import (
    AlreadyStarted,
    DeadlineExceeded,
    ExecutionNotFound,
)
from core.eventstore.group_commit import Committed
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
from workflows.api.options import StartOptions
from workflows.engine.client.completions import Completions
from workflows.engine.client.interceptors import (
    ClientOutbound,
    EndWorkflowInput,
    QueryWorkflowInput,
    SentUpdate,
    SignalWorkflowInput,
    StartedRun,
    StartUpdateInput,
    StartWorkflowInput,
)
from workflows.engine.client.replies import (
    await_reply,
    earlier_update,
    recorded_update,
    result_of,
)
from workflows.engine.clock import Clock
from workflows.engine.run.undeliverable_messages import reuse_allowed
from workflows.engine.store.history_reader import closed_heads, head_of
from workflows.engine.store.keys import WorkflowKeys, check_id, new_id
from workflows.engine.store.records import (
    HEAD_CODEC,
    Message,
    Query,
    RequestCancel,
    RunHead,
    Signal,
    Start,
    Terminate,
    Update,
    encode_message,
    reserved_head,
)
from workflows.engine.store.session import ClientSession
from workflows.model.errors import LimitExceeded
from workflows.model.events import WorkflowExecutionStarted
from workflows.model.limits import SIGNALS_MAX
from workflows.model.payloads import Payload, to_payloads
from workflows.model.policies import IdConflictPolicy, IdReusePolicy, UpdateStage

TERMINATE_S_MAX: Final = 10.0
"""How long a start waits until the run that it replaces has ended."""

NO_WORKER: Final = "check with `orbctl workflow describe` that a worker owns the execution"

NO_REPLY: Final = f"{NO_WORKER}; if a worker does, the handler takes longer: use a longer timeout"

NOT_OPEN = "check `orbctl workflow describe`: only an open execution receives messages"

INBOX_MESSAGES_MAX = 1_000
"""An execution with this many waiting messages accepts no signal, query or update."""

INBOX_URGENT_MAX = INBOX_MESSAGES_MAX + 100
"""The higher limit for cancel, terminate, pause, retry and reset."""


def inbox_count_read(keys: WorkflowKeys, workflow_id: str) -> Get:
    """A read that counts the messages to an id, and to ids that start with this id and "/"."""
    return Get(*keys.inbox_of(workflow_id), count_only=True)


async def check_inbox(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, limit: int = INBOX_MESSAGES_MAX
) -> None:
    """Raise LimitExceeded if ``limit`` messages wait for ``workflow_id``."""
    if (await store.read([inbox_count_read(keys, workflow_id)])).ranges[0].count < limit:
        return
    inbox = (await store.read([Get(*keys.inbox_of(workflow_id), keys_only=True)])).ranges[0].kvs
    count = sum(keys.inbox_parts(kv.key)[1] == workflow_id for kv in inbox)
    if count >= limit:
        raise LimitExceeded(
            f"{count} messages wait for workflow {workflow_id}, at most {limit} may wait: "
            "check with `orbctl workflow describe` whether a worker owns it, and what blocks it"
        )


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
        """Start a run, or find the open run. None if the open run has ended: try again.

        Returns the new run's id and the revision of the start, or the open run's id and 0. Raises
        AlreadyStarted, DeadlineExceeded, StoreUnavailable, OutcomeUnknown.
        """
        workflow_id = started.workflow_id
        key = self._keys.open(workflow_id)
        guards: list[Guard] = [Absent(key)]
        if options.reuse is not IdReusePolicy.ALLOW_DUPLICATE:
            guards.append(await self._check_reuse(workflow_id, options.reuse))
        # The head (the run's stored state) reserves the id; a worker starts the run.
        writes: list[Write] = [Put(key, HEAD_CODEC.encode(reserved_head(started, now_ms)))]
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
        # If the guard of a range failed, ``current`` does not contain the key.
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
                f"run {head.run_id} of workflow {workflow_id}, which the new run replaces, did not"
                f" end within {TERMINATE_S_MAX:g} s",
                subject=workflow_id,
                remedy=NO_WORKER,
            ) from None
        return None

    async def _check_reuse(self, workflow_id: str, policy: IdReusePolicy) -> Guard:
        """A guard that fails if a run of the id closes after this check. Raises AlreadyStarted."""
        start, end = self._keys.closed_runs(workflow_id)
        result = await self._store.read([Get(start, end)])
        closed = closed_heads(self._keys, result.ranges[0].kvs, workflow_id)
        last = max(closed, key=lambda head: head.closed_ms).status if closed else None
        if not reuse_allowed(policy, last):
            raise AlreadyStarted(
                f"the last run of workflow {workflow_id} is {last}, and the reuse policy is"
                f" {policy.value}",
                subject=workflow_id,
                remedy="use another id, or another reuse policy",
            )
        return NothingNewer(start, end, result.revision)

    async def _read(self, key: bytes) -> KeyValue | None:
        stored = (await self._store.read([Get(key)])).ranges[0].kvs
        return stored[0] if stored else None


class ClientCalls(ClientOutbound):
    """The calls of one client."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: WorkflowKeys,
        session: ClientSession,
        starts: StartTransactions,
        clock: Clock,
        identity: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._session = session
        self._starts = starts
        self._clock = clock
        self._identity = identity

    # ----------------------------------------------------------------------------- starting

    async def start_workflow(self, start: StartWorkflowInput) -> StartedRun:
        return await self._start(start)

    async def signal_with_start_workflow(
        self, start: StartWorkflowInput, signal: SignalWorkflowInput
    ) -> StartedRun:
        message = self._signal(signal)
        while True:
            opened = await self._find_open(signal.workflow_id)
            if opened is not None:
                if await self._try_signal(opened, message):
                    return StartedRun(opened.run_id)
                continue
            try:
                return await self._start(start, message)
            except AlreadyStarted as error:
                if not error.run_id:
                    raise

    async def _start(self, start: StartWorkflowInput, signal: Signal | None = None) -> StartedRun:
        name, workflow_id, args, options, trace = start
        check_id(workflow_id)
        payloads = to_payloads(args, what=f"arguments of {name}")
        while True:
            now_ms = self._clock.now_ms()
            started = WorkflowExecutionStarted(
                name,
                workflow_id,
                new_id(now_ms),
                self._keys.queue,
                payloads,
                options.run_timeout_s,
                options.execution_timeout_s,
                options.search_attributes,
                options.memo,
                identity=self._identity,
                traceparent=trace or options.traceparent,
                trigger=options.trigger,
            )
            run = await self._starts.try_start(started, now_ms, options, signal)
            if run is not None:
                return StartedRun(*run)

    # ------------------------------------------------------------------------------ messages

    async def signal_workflow(self, signal: SignalWorkflowInput) -> None:
        message = self._signal(signal)
        while True:
            head = await self.open_head(signal.workflow_id)
            if await self._try_signal(head, message):
                return

    async def query_workflow(self, query: QueryWorkflowInput) -> Payload:
        workflow_id, name = query.workflow_id, query.query
        payloads = to_payloads(query.args, what=f"arguments of query {name}")
        await check_inbox(self._store, self._keys, workflow_id)
        lease = await self._session.lease()
        message_id = await self.send(workflow_id, Query(name, payloads, lease, query.traceparent))
        async with _reply_timeout(workflow_id, f"query {name!r}", query.timeout_s):
            reply = await await_reply(self._store, self._keys, message_id)
        return result_of(reply, workflow_id, f"query {name!r}")

    async def start_update(self, update: StartUpdateInput) -> SentUpdate:
        workflow_id, update_id, name, args, stage, timeout_s, is_new, trace = update
        payloads = to_payloads(args, what=f"arguments of update {name}")
        update_key = (self._store, self._keys, workflow_id, update_id, stage)
        poll = partial(recorded_update, *update_key)
        message_id, reply = None, None if is_new else await earlier_update(*update_key)
        if reply is None:
            await self.open_head(workflow_id)
            lease = await self._session.lease()
            message = Update(update_id, name, payloads, self._identity, lease, trace, stage)
            message_id = await self.send(workflow_id, message)
            if stage is UpdateStage.ADMITTED:
                return SentUpdate(message_id, reply=None)
            async with _reply_timeout(workflow_id, f"update {name!r}", timeout_s):
                is_last = stage is UpdateStage.COMPLETED
                reply = await await_reply(
                    self._store, self._keys, message_id, poll=poll, to_completion=is_last
                )
        if reply.rejected or stage is UpdateStage.COMPLETED:
            result_of(reply, workflow_id, f"update {name!r}")
        # ``accepted``: the update has not completed, so there is no result yet.
        return SentUpdate(message_id, None if reply.accepted else reply)

    async def cancel_workflow(self, end: EndWorkflowInput) -> None:
        await self.open_head(end.workflow_id, INBOX_URGENT_MAX)
        await self.send(end.workflow_id, RequestCancel(end.reason, self._identity))

    async def terminate_workflow(self, end: EndWorkflowInput) -> None:
        head = await self.open_head(end.workflow_id, INBOX_URGENT_MAX)
        await self.send(end.workflow_id, Terminate(end.reason, self._identity, head.run_id))

    # ------------------------------------------------------------------------------ writing

    def _signal(self, signal: SignalWorkflowInput) -> Signal:
        _, name, args, request_id, trace = signal
        payloads = to_payloads(args, what=f"arguments of signal {name}")
        return Signal(name, payloads, self._identity, request_id, trace)

    async def _try_signal(self, head: RunHead, signal: Signal) -> bool:
        """Send a signal; False if the run has closed. Raises LimitExceeded."""
        if head.signals >= SIGNALS_MAX:
            raise LimitExceeded(
                f"workflow {head.workflow_id} has {head.signals} signals, SIGNALS_MAX is "
                f"{SIGNALS_MAX}: its code must continue as new before it can receive more"
            )
        keys, workflow_id = self._keys, head.workflow_id
        inbox = keys.inbox(workflow_id, new_id(self._clock.now_ms()))
        outcome = await self._session.propose(
            [Absent(keys.closed(workflow_id, head.run_id))],
            [Put(inbox, encode_message(signal)), Put(keys.signal_fence(workflow_id), b"")],
        )
        return isinstance(outcome, Committed)

    async def send(self, workflow_id: str, message: Message) -> str:
        """Store a message; returns its id. Raises StoreUnavailable, OutcomeUnknown."""
        message_id = new_id(self._clock.now_ms())
        put = Put(self._keys.inbox(workflow_id, message_id), encode_message(message))
        outcome = await self._session.propose([], [put])
        assert isinstance(outcome, Committed), "a proposal without guards cannot lose a race"
        return message_id

    async def open_head(self, workflow_id: str, limit: int = INBOX_MESSAGES_MAX) -> RunHead:
        """The head of the open run.

        Raises ExecutionNotFound, UnusableValue, and LimitExceeded if ``limit`` messages wait.
        """
        head = await self._find_open(workflow_id, limit)
        if head is None:
            raise ExecutionNotFound(
                f"workflow {workflow_id} has no open execution",
                subject=workflow_id,
                remedy=NOT_OPEN,
            )
        return head

    async def _find_open(self, workflow_id: str, limit: int = INBOX_MESSAGES_MAX) -> RunHead | None:
        gets = [Get(self._keys.open(workflow_id)), inbox_count_read(self._keys, workflow_id)]
        opened, inbox = (await self._store.read(gets)).ranges
        if not opened.kvs:
            return None
        if inbox.count >= limit:
            await check_inbox(self._store, self._keys, workflow_id, limit)
        return head_of(self._keys, opened.kvs[0])


@asynccontextmanager
async def _reply_timeout(workflow_id: str, call: str, timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            f"no worker replied to {call} of workflow {workflow_id} within {timeout_s:g} s",
            subject=workflow_id,
            remedy=NO_REPLY,
        ) from None
