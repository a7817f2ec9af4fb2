"""The client: begin executions, talk to them, look at them.

Everything that reaches an execution is a message under a key of its own, so clients never contend
with the worker or with each other. A signal that was accepted will be in the history: its
transaction holds only while the run is not closed, and closing a run compares the mail key.
It never writes to a history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

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
    Guard,
    KeyValue,
    KeyValueStore,
    NothingNewer,
    Put,
    Write,
)
from workflows.api.definitions import workflow_definition
from workflows.engine.client.call_results import Poll, await_reply, recorded_update, result_of
from workflows.engine.client.client_session import ClientSession
from workflows.engine.client.completions import Completions
from workflows.engine.clock import Clock, SystemClock
from workflows.engine.run.start_run import reserved_head
from workflows.engine.run.undeliverable_messages import reuse_allowed
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import closed_heads, find_run, head_of
from workflows.engine.store.inboxes import (
    INBOX_MESSAGES_MAX,
    INBOX_URGENT_MAX,
    check_inbox,
    count_inbox,
)
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys, check_id, new_id
from workflows.engine.store.records import (
    HEAD,
    Message,
    Query,
    Reply,
    RequestCancel,
    Reset,
    Retry,
    RunHead,
    Signal,
    Start,
    Terminate,
    Update,
    encode_message,
)
from workflows.engine.telemetry import Telemetry
from workflows.model.errors import LimitExceeded
from workflows.model.events import SearchAttributes, WorkflowExecutionStarted
from workflows.model.failures import Failure, error_of
from workflows.model.limits import SIGNALS_MAX
from workflows.model.payloads import Payload, from_payload, to_payloads
from workflows.model.policies import ExecutionStatus, IdConflictPolicy, IdReusePolicy

REPLY_S = 10.0
"""How long a query or update waits for its answer by default."""

TERMINATE_S_MAX = 10.0
"""How long a start waits for the run that it takes the place of."""

NO_OPEN = "look at `orbctl workflow describe`: only open executions can be asked for this"


class StartOptions(NamedTuple):
    """How an execution begins. Times in seconds, 0: unbounded. ``trigger``: the event behind it."""

    reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    conflict: IdConflictPolicy = IdConflictPolicy.FAIL
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}  # noqa: RUF012 - never changed in place
    memo: dict[str, Payload] = {}  # noqa: RUF012 - never changed in place
    traceparent: str = ""
    trigger: str = ""


class WorkflowHandle(NamedTuple):
    """An execution: ``run_id`` is that of the run that was started or found.

    ``opened_at``: the store's revision at which it was started, 0 if it was found.
    """

    client: Client
    workflow_id: str
    run_id: str
    result_type: Any = Any
    opened_at: int = 0

    async def result(self) -> Any:  # noqa: ANN401 - of the workflow's own type
        """Wait for the end of the execution, also over continued runs. Raises ExecutionFailed."""
        return await self.client.result(*self[1:])

    async def signal(self, name: str, *args: object) -> None:
        """See ``Client.signal``."""
        await self.client.signal(self.workflow_id, name, *args)

    async def query(self, name: str, *args: object) -> Payload:
        """See ``Client.query``."""
        return await self.client.query(self.workflow_id, name, *args)

    async def update(self, name: str, *args: object) -> Payload:
        """See ``Client.update``."""
        return await self.client.update(self.workflow_id, name, *args)

    async def cancel(self, reason: str = "") -> None:
        """See ``Client.cancel``."""
        await self.client.cancel(self.workflow_id, reason)

    async def terminate(self, reason: str = "") -> None:
        """See ``Client.terminate``."""
        await self.client.terminate(self.workflow_id, reason)


class Client:
    """Speaks to the executions of one task queue. ``completions`` may be shared with a worker's.

    ``files``: the archive, where results of runs that have left the store are looked up.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        *,
        name: str = "client",
        queue: str = DEFAULT_QUEUE,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        files: ExecutionFiles | None = None,
    ) -> None:
        self.store = store
        self.keys = WorkflowKeys(keys, queue)
        self.identity = name
        self.completions = Completions(store, self.keys, files)
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry()
        self._session = ClientSession(store, self.keys, name)

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
        """Give the session back."""
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
        """Begin an execution; with ``signal``, it is signalled at once.

        Raises AlreadyStarted by the id policies, StoreUnavailable, OutcomeUnknown, PayloadError.
        """
        check_id(id)
        name, result_type = _named(workflow)
        payloads = to_payloads(args, what=f"arguments of {name}")
        verb = "StartWorkflow" if signal is None else "SignalWithStartWorkflow"
        trace = self._telemetry.record_span(
            f"{verb}:{name}", options.traceparent, {"workflow.id": id}
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
            found = await self._try_start(started, now_ms, options, signal)
            if found is not None:
                return WorkflowHandle(self, id, found[0], result_type, found[1])

    async def signal_with_start(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        signal: str,
        signal_args: Sequence[object] = (),
        options: StartOptions = StartOptions(),
    ) -> WorkflowHandle:
        """Signal the open execution of the id, or begin one and signal it; atomic either way."""
        _, result_type = _named(workflow)
        message = self._signal(signal, signal_args, "")
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

    async def _try_start(
        self,
        started: WorkflowExecutionStarted,
        now_ms: int,
        options: StartOptions,
        signal: Signal | None,
    ) -> tuple[str, int] | None:
        """The run that was started, with its revision, or found, with 0; None: look again."""
        workflow_id = started.workflow_id
        key = self.keys.open(workflow_id)
        guards: list[Guard] = [Absent(key)]
        if options.reuse is not IdReusePolicy.ALLOW_DUPLICATE:
            guards.append(await self._check_reuse(workflow_id, options.reuse))
        writes: list[Write] = [Put(key, HEAD.encode(reserved_head(started, now_ms)))]
        messages: list[Message] = [Start(started, reserved=True, at_ms=now_ms)]
        if signal is not None:
            messages.append(signal)
            writes.append(Put(self.keys.signal_fence(workflow_id), b""))
        for order, message in enumerate(messages):
            inbox = self.keys.inbox(workflow_id, new_id(now_ms, order))
            writes.append(Put(inbox, encode_message(message)))
        outcome = await self._session.propose(guards, writes)
        if isinstance(outcome, Committed):
            return started.run_id, outcome.revision
        # A guard on a range is lost without a truth about the others.
        found = outcome.truth.get(key) or await self._read(key)
        if found is None:
            return None
        head = head_of(self.keys, found)
        if options.conflict is IdConflictPolicy.USE_EXISTING:
            return head.run_id, 0
        if options.conflict is IdConflictPolicy.FAIL:
            raise AlreadyStarted(
                f"the id {workflow_id} belongs to an open execution",
                subject=workflow_id,
                remedy="use another id, or the conflict policy UseExisting",
                run_id=head.run_id,
            )
        reason = f"another execution takes the id {workflow_id}"
        await self._send(workflow_id, Terminate(reason, self.identity, head.run_id))
        try:
            async with asyncio.timeout(TERMINATE_S_MAX):
                await self.completions.of(workflow_id, head.run_id)
        except TimeoutError:
            raise DeadlineExceeded(
                f"run {head.run_id} of {workflow_id} has not ended within {TERMINATE_S_MAX:g} s",
                subject=workflow_id,
                remedy="see whether workers are there: `orbctl workflow describe`",
            ) from None
        return None

    async def _check_reuse(self, workflow_id: str, policy: IdReusePolicy) -> Guard:
        """The guard that keeps what was found true. Raises AlreadyStarted."""
        start, end = self.keys.closed_runs(workflow_id)
        result = await self.store.read([Get(start, end)])
        closed = closed_heads(self.keys, result.ranges[0].kvs, workflow_id)
        last = max(closed, key=lambda head: head.closed_ms).status if closed else None
        if not reuse_allowed(policy, last):
            raise AlreadyStarted(
                f"the id {workflow_id} belongs to an execution that is {last} ({policy.value})",
                subject=workflow_id,
                remedy="use another id, or another reuse policy",
            )
        return NothingNewer(start, end, result.revision)

    # ------------------------------------------------------------------------------ talking

    async def signal(
        self, workflow_id: str, name: str, *args: object, request_id: str = ""
    ) -> None:
        """Signal the open execution. ``request_id``: sent twice, it counts once.

        Raises ExecutionNotFound, LimitExceeded.
        """
        message = self._signal(name, args, request_id)
        while True:
            head = await self._open_head(workflow_id)
            if await self._try_signal(head, message):
                return

    async def query(
        self, workflow_id: str, name: str, *args: object, timeout_s: float = REPLY_S
    ) -> Payload:
        """Ask the code. Raises CallRejected, DeadlineExceeded."""
        payloads = to_payloads(args, what=f"arguments of query {name}")
        reply = await self._call(
            workflow_id, lambda lease: Query(name, payloads, lease), name, timeout_s
        )
        return result_of(reply, workflow_id, name)

    async def update(
        self,
        workflow_id: str,
        name: str,
        *args: object,
        update_id: str = "",
        timeout_s: float = REPLY_S,
    ) -> Payload:
        """Ask the code to change something, and wait for the result.

        Raises CallRejected when the validator says no, the handler's own failure, and
        DeadlineExceeded: then it may still happen, and its result will be in the history. Sent
        again under its ``update_id``, an update that was accepted is waited for, not repeated.
        """
        payloads = to_payloads(args, what=f"arguments of update {name}")
        self._telemetry.record_span(f"StartWorkflowUpdate:{name}", "", {"workflow.id": workflow_id})
        number = update_id or new_id(self._clock.now_ms())
        poll = partial(recorded_update, self.store, self.keys, workflow_id, number)
        reply = await poll() if update_id else None
        if reply is None:
            await self._open_head(workflow_id)
            reply = await self._call(
                workflow_id,
                lambda lease: Update(number, name, payloads, self.identity, lease),
                name,
                timeout_s,
                poll,
            )
        return result_of(reply, workflow_id, name)

    async def cancel(self, workflow_id: str, reason: str = "") -> None:
        """Ask the execution to end in an orderly way. Raises ExecutionNotFound."""
        await self._open_head(workflow_id, INBOX_URGENT_MAX)
        await self._send(workflow_id, RequestCancel(reason, self.identity))

    async def terminate(self, workflow_id: str, reason: str = "") -> None:
        """End the execution; its code is not asked. Raises ExecutionNotFound."""
        head = await self._open_head(workflow_id, INBOX_URGENT_MAX)
        await self._send(workflow_id, Terminate(reason, self.identity, head.run_id))

    async def retry(self, workflow_id: str, reason: str = "") -> None:
        """Let a paused execution go on. Raises ExecutionNotFound, CallRejected."""
        head = await self._open_head(workflow_id, INBOX_URGENT_MAX)
        if head.status is not ExecutionStatus.PAUSED:
            raise CallRejected(
                f"{workflow_id} is {head.status.value}, not paused", subject=workflow_id
            )
        await self._send(workflow_id, Retry(reason, self.identity))

    async def reset(
        self, workflow_id: str, event_id: int, *, run_id: str = "", reason: str = ""
    ) -> str:
        """Go on in a new run, from the workflow task at or before an event; the new run's id.

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
        """Wait for the end, over continued runs. Raises ExecutionFailed, ExecutionNotFound.

        ``opened_at``: a revision of the store at which the run was open, 0 if none is known.
        """
        wanted = run_id or (await find_run(self.store, self.keys, workflow_id)).run_id
        while True:
            head = await self.completions.of(workflow_id, wanted, opened_at)
            if head.status is ExecutionStatus.COMPLETED:
                return from_payload(head.result, kind, what=f"the result of {workflow_id}")
            if head.status is not ExecutionStatus.CONTINUED_AS_NEW:
                break
            wanted, opened_at = head.new_run_id, 0
        failure = head.failure if isinstance(head.failure, Failure) else None
        error = ExecutionFailed(
            f"{workflow_id} is {head.status.value}: {head.reason or 'no reason was given'}",
            subject=workflow_id,
            status=head.status.value,
            cause=failure,
        )
        raise error from (error_of(failure) if failure is not None else None)

    async def _call(
        self,
        workflow_id: str,
        message: Callable[[int], Message],
        name: str,
        timeout_s: float,
        poll: Poll | None = None,
    ) -> Reply:
        await check_inbox(self.store, self.keys, workflow_id)
        number, lease = new_id(self._clock.now_ms()), await self._session.lease()
        put = Put(self.keys.inbox(workflow_id, number), encode_message(message(lease)))
        outcome = await self._session.propose([], [put])
        assert isinstance(outcome, Committed), "a proposal without guards loses to nobody"
        try:
            async with asyncio.timeout(timeout_s):
                return await await_reply(
                    self.store, self.keys, number, after=outcome.revision, poll=poll
                )
        except TimeoutError:
            pass
        raise DeadlineExceeded(
            f"no worker has answered {name} of {workflow_id} within {timeout_s:g} s",
            subject=workflow_id,
            remedy="see whether workers are there: `orbctl workflow describe`",
        )

    # ------------------------------------------------------------------------------ writing

    def _signal(self, name: str, args: Sequence[object], request_id: str) -> Signal:
        payloads = to_payloads(args, what=f"arguments of signal {name}")
        trace = self._telemetry.record_span(f"SignalWorkflow:{name}", "", {})
        return Signal(name, payloads, self.identity, request_id, trace)

    async def _try_signal(self, head: RunHead, signal: Signal) -> bool:
        """Whether the run was open; its owner will have the signal in the history then.

        Raises LimitExceeded.
        """
        if head.signals >= SIGNALS_MAX:
            raise LimitExceeded(
                f"{head.workflow_id} has {head.signals} signals, SIGNALS_MAX is {SIGNALS_MAX}"
            )
        keys, workflow_id = self.keys, head.workflow_id
        inbox = keys.inbox(workflow_id, new_id(self._clock.now_ms()))
        outcome = await self._session.propose(
            [Absent(keys.closed(workflow_id, head.run_id))],
            [Put(inbox, encode_message(signal)), Put(keys.signal_fence(workflow_id), b"")],
        )
        return isinstance(outcome, Committed)

    async def _send(self, workflow_id: str, message: Message) -> None:
        key = self.keys.inbox(workflow_id, new_id(self._clock.now_ms()))
        await self._session.propose([], [Put(key, encode_message(message))])

    async def _read(self, key: bytes) -> KeyValue | None:
        found = (await self.store.read([Get(key)])).ranges[0].kvs
        return found[0] if found else None

    async def _open_head(self, workflow_id: str, most: int = INBOX_MESSAGES_MAX) -> RunHead:
        """Raises ExecutionNotFound, and as ``_find_open``."""
        head = await self._find_open(workflow_id, most)
        if head is None:
            raise ExecutionNotFound(
                f"there is no open execution {workflow_id}", subject=workflow_id, remedy=NO_OPEN
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
