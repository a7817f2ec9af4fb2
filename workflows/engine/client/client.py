"""The client: starts executions, sends messages to them, and waits for their results.

Every message has a key of its own, so clients contend neither with the worker nor with each other.
An accepted signal is recorded in the history: its transaction fails once the run is closed, and
closing a run compares the signal fence. A client writes no history.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from core.errors import (
    AlreadyStarted,
    CallRejected,
    DeadlineExceeded,
    ExecutionFailed,
    ExecutionNotFound,
)
from core.eventstore.group_commit import Committed
from core.eventstore.keys import Keys
from core.eventstore.kv import (
    Absent,
    Get,
    KeyValueStore,
    Put,
)
from workflows.api.definitions import reference_to, workflow_definition
from workflows.engine.client.call_results import (
    SentMessage,
    await_reply,
    recorded_update,
    result_of,
)
from workflows.engine.client.client_transactions import (
    INBOX_MESSAGES_MAX,
    INBOX_URGENT_MAX,
    NO_WORKER,
    ClientSession,
    StartOptions,
    StartTransactions,
    check_inbox,
    count_inbox,
)
from workflows.engine.client.completions import Completions
from workflows.engine.client.handles import UpdateHandle, WorkflowHandle
from workflows.engine.clock import Clock, SystemClock
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import find_run, head_of
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys, check_id, new_id
from workflows.engine.store.records import (
    Message,
    Pause,
    Query,
    RequestCancel,
    Reset,
    Retry,
    RunHead,
    Signal,
    Terminate,
    Update,
    encode_message,
)
from workflows.engine.telemetry import Telemetry
from workflows.model.errors import LimitExceeded
from workflows.model.events import WorkflowExecutionStarted
from workflows.model.failures import Failure, error_of
from workflows.model.limits import SIGNALS_MAX
from workflows.model.payloads import from_payload, to_payloads
from workflows.model.policies import ExecutionStatus, UpdateStage

T = TypeVar("T")

REPLY_S = 10.0
"""Seconds that a query or update waits for its reply by default."""

NOT_OPEN = "check `orbctl workflow describe`: only an open execution can receive this"


class Client:
    """A client of the executions of one task queue. ``completions`` may be shared with a worker's.

    ``name``: of its session; ``identity``: who it acts for, in histories, ``name`` by default.
    ``files``: the archive, for the results of runs that have left the store.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        *,
        name: str = "client",
        identity: str = "",
        queue: str = DEFAULT_QUEUE,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        files: ExecutionFiles | None = None,
    ) -> None:
        self.store = store
        self.keys = WorkflowKeys(keys, queue)
        self.identity = identity or name
        self.completions = Completions(store, self.keys, files)
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry()
        self._session = ClientSession(store, self.keys, name)
        self._starts = StartTransactions(
            store, self.keys, self._session, self.completions, self._clock, self.identity
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the session."""
        self.completions.close()
        await self._session.close()

    # ---------------------------------------------------------------------------- beginning

    async def start(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        options: StartOptions = StartOptions(),
        signal: Signal | None = None,
    ) -> WorkflowHandle:
        """Start an execution; ``signal`` is sent in the same transaction.

        Raises AlreadyStarted by the id policies, DeadlineExceeded, StoreUnavailable,
        OutcomeUnknown, PayloadError.
        """
        check_id(id)
        name, result_type = _named(workflow)
        payloads = to_payloads(args, what=f"arguments of {name}")
        verb = "StartWorkflow" if signal is None else "SignalWithStartWorkflow"
        trace = self._telemetry.record_call(
            f"{verb}:{name}", {"workflow.id": id}, options.traceparent, options.link_attributes
        )
        while True:
            now_ms = self._clock.now_ms()
            started = WorkflowExecutionStarted(
                name,
                id,
                new_id(now_ms),
                self.keys.queue,
                payloads,
                options.run_timeout_s,
                options.execution_timeout_s,
                options.search_attributes,
                options.memo,
                identity=self.identity,
                traceparent=trace,
                trigger=options.trigger,
            )
            run = await self._starts.try_start(started, now_ms, options, signal)
            if run is not None:
                return WorkflowHandle(self, id, run[0], result_type, run[1])

    async def signal_with_start(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        signal: str,
        signal_args: Sequence[object] = (),
        options: StartOptions = StartOptions(),
    ) -> WorkflowHandle:
        """Signal the open execution of the id, or start one with the signal; atomic either way."""
        _, result_type = _named(workflow)
        message = self._signal(id, signal, signal_args, "")
        while True:
            opened = await self._find_open(id)
            if opened is not None:
                if await self._try_signal(opened, message):
                    return WorkflowHandle(self, id, opened.run_id, result_type)
                continue
            try:
                return await self.start(workflow, *args, id=id, options=options, signal=message)
            except AlreadyStarted as error:
                if not error.run_id:
                    raise

    async def start_or_signal(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        signal: str,
        signal_args: Sequence[object] = (),
        options: StartOptions = StartOptions(),
    ) -> None:
        """Start an execution, or signal it if it is open already.

        Raises AlreadyStarted by the reuse policy, LimitExceeded, StoreUnavailable, OutcomeUnknown.
        """
        message = self._signal(id, signal, signal_args, "")
        while True:
            try:
                await self.start(workflow, *args, id=id, options=options)
            except AlreadyStarted as error:
                if not error.run_id:
                    raise
            else:
                return
            opened = await self._find_open(id)
            if opened is not None and await self._try_signal(opened, message):
                return

    # ------------------------------------------------------------------------------ messages

    async def signal(
        self,
        workflow_id: str,
        signal: str | Callable[..., Any],
        *args: object,
        request_id: str = "",
    ) -> None:
        """Signal the open execution. Two signals with one ``request_id`` are recorded once.

        ``signal``: its name, or the method that handles it, such as ``Order.approve``. Raises
        ExecutionNotFound, LimitExceeded.
        """
        name, _ = reference_to(signal, "signal")
        message = self._signal(workflow_id, name, args, request_id)
        while True:
            head = await self._open_head(workflow_id)
            if await self._try_signal(head, message):
                return

    async def query(
        self,
        workflow_id: str,
        query: str | Callable[..., Any],
        *args: object,
        timeout_s: float = REPLY_S,
    ) -> Any:  # noqa: ANN401 - of the handler's own type
        """Query the code. ``query`` as in ``signal``. Raises CallRejected, DeadlineExceeded."""
        name, kind = reference_to(query, "query")
        payloads = to_payloads(args, what=f"arguments of query {name}")
        with self._telemetry.call_span(
            f"QueryWorkflow:{name}", {"workflow.id": workflow_id}
        ) as trace:
            await check_inbox(self.store, self.keys, workflow_id)
            lease = await self._session.lease()
            sent = await self._send(workflow_id, Query(name, payloads, lease, trace))
            async with self._reply_timeout(workflow_id, name, timeout_s):
                reply = await await_reply(self.store, self.keys, sent)
            result = result_of(reply, workflow_id, name)
        return from_payload(result, kind, what=f"reply of {name}")

    async def update(
        self,
        workflow_id: str,
        update: str | Callable[..., Any],
        *args: object,
        update_id: str = "",
        timeout_s: float = REPLY_S,
    ) -> Any:  # noqa: ANN401 - of the handler's own type
        """Update the execution and wait for the result. ``update`` as in ``signal``.

        An accepted update that is sent again with its ``update_id`` is not repeated. Raises
        CallRejected by the validator, the handler's failure, and DeadlineExceeded: then the update
        may still be executed, and its result will be in the history.
        """
        handle = await self.start_update(
            workflow_id,
            update,
            *args,
            wait_for_stage=UpdateStage.COMPLETED,
            update_id=update_id,
            timeout_s=timeout_s,
        )
        return await handle.result()

    async def start_update(
        self,
        workflow_id: str,
        update: str | Callable[..., Any],
        *args: object,
        wait_for_stage: UpdateStage = UpdateStage.ACCEPTED,
        update_id: str = "",
        timeout_s: float = REPLY_S,
    ) -> UpdateHandle[Any]:
        """Send an update and wait for a stage of it; the handle waits for the result.

        ADMITTED: the update is stored, and a worker will validate it. ACCEPTED: it is in the
        history, and its handler runs. Raises as ``update``; a failure of the handler only if
        COMPLETED was awaited.
        """
        name, kind = reference_to(update, "update")
        payloads = to_payloads(args, what=f"arguments of update {name}")
        number = update_id or new_id(self._clock.now_ms())
        handle: UpdateHandle[Any] = UpdateHandle(self, workflow_id, number, name, kind)
        stage = wait_for_stage
        poll = partial(recorded_update, self.store, self.keys, workflow_id, number, stage)
        with self._telemetry.call_span(
            f"StartWorkflowUpdate:{name}", {"workflow.id": workflow_id}
        ) as trace:
            reply = await poll() if update_id else None
            if reply is None:
                await self._open_head(workflow_id)
                lease = await self._session.lease()
                message = Update(number, name, payloads, self.identity, lease, trace, stage)
                sent = await self._send(workflow_id, message)
                handle = handle._replace(sent=sent)
                if stage is UpdateStage.ADMITTED:
                    return handle
                async with self._reply_timeout(workflow_id, name, timeout_s):
                    is_last = stage is UpdateStage.COMPLETED
                    reply = await await_reply(
                        self.store, self.keys, sent, poll=poll, to_completion=is_last
                    )
            if reply.rejected or stage is UpdateStage.COMPLETED:
                result_of(reply, workflow_id, name)
        return handle if reply.accepted else handle._replace(reply=reply)

    async def update_result(self, handle: UpdateHandle[T]) -> T:
        """Wait for the result of an update; see ``UpdateHandle.result``."""
        workflow_id, name, reply = handle.workflow_id, handle.name, handle.reply
        if reply is None:
            poll = partial(recorded_update, self.store, self.keys, workflow_id, handle.update_id)
            reply = await poll() or await await_reply(
                self.store, self.keys, handle.sent, poll=poll, to_completion=True
            )
        result = result_of(reply, workflow_id, name)
        value: T = from_payload(result, handle.result_type, what=f"reply of {name}")
        return value

    async def cancel(self, workflow_id: str, reason: str = "") -> None:
        """Request cancellation. Raises ExecutionNotFound."""
        await self._open_head(workflow_id, INBOX_URGENT_MAX)
        await self._send(workflow_id, RequestCancel(reason, self.identity))

    async def terminate(self, workflow_id: str, reason: str = "") -> None:
        """End the execution without running its code. Raises ExecutionNotFound."""
        head = await self._open_head(workflow_id, INBOX_URGENT_MAX)
        await self._send(workflow_id, Terminate(reason, self.identity, head.run_id))

    async def pause(self, workflow_id: str, reason: str = "") -> None:
        """Pause the execution: its code gets nothing until ``retry``, what arrives is recorded.

        Activities that run go on to their ends. Raises ExecutionNotFound, CallRejected if it is
        paused already.
        """
        head = await self._open_head(workflow_id, INBOX_URGENT_MAX)
        if head.status is ExecutionStatus.PAUSED:
            raise CallRejected(f"workflow {workflow_id} is paused already", subject=workflow_id)
        await self._send(workflow_id, Pause(reason, self.identity))

    async def retry(self, workflow_id: str, reason: str = "") -> None:
        """Resume a paused execution. Raises ExecutionNotFound, CallRejected."""
        head = await self._open_head(workflow_id, INBOX_URGENT_MAX)
        if head.status is not ExecutionStatus.PAUSED:
            raise CallRejected(
                f"workflow {workflow_id} is {head.status.value}, not paused", subject=workflow_id
            )
        await self._send(workflow_id, Retry(reason, self.identity))

    async def reset(
        self, workflow_id: str, event_id: int, *, run_id: str = "", reason: str = ""
    ) -> str:
        """Continue in a new run from the workflow task at or before an event; the new run id.

        Raises ExecutionNotFound.
        """
        head = await find_run(self.store, self.keys, workflow_id, run_id)
        await check_inbox(self.store, self.keys, workflow_id, INBOX_URGENT_MAX)
        new_run_id = new_id(self._clock.now_ms())
        message = Reset(head.run_id, event_id, new_run_id, reason, self.identity)
        await self._send(workflow_id, message)
        return new_run_id

    # ------------------------------------------------------------------------------ waiting

    async def result(
        self, workflow_id: str, run_id: str = "", kind: object = Any, opened_at: int = 0
    ) -> Any:  # noqa: ANN401
        """Wait for the result, over continued runs. Raises ExecutionFailed, ExecutionNotFound.

        ``opened_at``: a revision of the store at which the run was open, 0 if unknown.
        """
        current = run_id or (await find_run(self.store, self.keys, workflow_id)).run_id
        while True:
            head = await self.completions.of(workflow_id, current, opened_at)
            if head.status is ExecutionStatus.COMPLETED:
                return from_payload(head.result, kind, what=f"the result of {workflow_id}")
            if head.status is not ExecutionStatus.CONTINUED_AS_NEW:
                break
            current, opened_at = head.new_run_id, 0
        failure = head.failure if isinstance(head.failure, Failure) else None
        error = ExecutionFailed(
            f"workflow {workflow_id} is {head.status.value}: {head.reason or 'no reason given'}",
            subject=workflow_id,
            status=head.status.value,
            cause=failure,
        )
        raise error from (error_of(failure) if failure is not None else None)

    @asynccontextmanager
    async def _reply_timeout(
        self, workflow_id: str, name: str, timeout_s: float
    ) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                f"no worker replied to {name} of workflow {workflow_id} within {timeout_s:g} s",
                subject=workflow_id,
                remedy=NO_WORKER,
            ) from None

    # ------------------------------------------------------------------------------ writing

    def _signal(
        self, workflow_id: str, name: str, args: Sequence[object], request_id: str
    ) -> Signal:
        payloads = to_payloads(args, what=f"arguments of signal {name}")
        trace = self._telemetry.record_call(f"SignalWorkflow:{name}", {"workflow.id": workflow_id})
        return Signal(name, payloads, self.identity, request_id, trace)

    async def _try_signal(self, head: RunHead, signal: Signal) -> bool:
        """Whether the run was open: then the signal will be recorded. Raises LimitExceeded."""
        if head.signals >= SIGNALS_MAX:
            raise LimitExceeded(
                f"workflow {head.workflow_id} has {head.signals} signals, SIGNALS_MAX is "
                f"{SIGNALS_MAX}"
            )
        keys, workflow_id = self.keys, head.workflow_id
        inbox = keys.inbox(workflow_id, new_id(self._clock.now_ms()))
        outcome = await self._session.propose(
            [Absent(keys.closed(workflow_id, head.run_id))],
            [Put(inbox, encode_message(signal)), Put(keys.signal_fence(workflow_id), b"")],
        )
        return isinstance(outcome, Committed)

    async def _send(self, workflow_id: str, message: Message) -> SentMessage:
        message_id = new_id(self._clock.now_ms())
        put = Put(self.keys.inbox(workflow_id, message_id), encode_message(message))
        outcome = await self._session.propose([], [put])
        assert isinstance(outcome, Committed), "a proposal without guards is not lost"
        return SentMessage(message_id, outcome.revision)

    async def _open_head(self, workflow_id: str, most: int = INBOX_MESSAGES_MAX) -> RunHead:
        """Raises ExecutionNotFound, and as ``_find_open``."""
        head = await self._find_open(workflow_id, most)
        if head is None:
            raise ExecutionNotFound(
                f"workflow {workflow_id} has no open execution",
                subject=workflow_id,
                remedy=NOT_OPEN,
            )
        return head

    async def _find_open(self, workflow_id: str, most: int = INBOX_MESSAGES_MAX) -> RunHead | None:
        """Raises UnusableValue, LimitExceeded for an inbox with ``most`` messages in it."""
        gets = [Get(self.keys.open(workflow_id)), count_inbox(self.keys, workflow_id)]
        opened, inbox = (await self.store.read(gets)).ranges
        if not opened.kvs:
            return None
        if inbox.count >= most:
            await check_inbox(self.store, self.keys, workflow_id, most)
        return head_of(self.keys, opened.kvs[0])


def _named(workflow: str | type[Any]) -> tuple[str, Any]:
    if isinstance(workflow, str):
        return workflow, Any
    definition = workflow_definition(workflow)
    return definition.name, definition.run.result_type
