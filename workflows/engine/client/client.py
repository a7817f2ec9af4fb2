"""The client: starts executions, sends messages to executions, and waits for results.

Calls go through the client's interceptors to ``client_calls``. A client writes no history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from core.errors import (
    AlreadyStarted,
    BadInput,
    CallRejected,
    ExecutionFailed,
    ExecutionNotFound,
)
from core.eventstore.keys import Keys
from core.eventstore.kv import (
    KeyValueStore,
)
from workflows.api.definitions import reference_to, workflow_definition
from workflows.api.options import StartOptions
from workflows.engine.client.client_calls import (
    INBOX_URGENT_MAX,
    ClientCalls,
    StartTransactions,
    check_inbox,
)
from workflows.engine.client.completions import Completions
from workflows.engine.client.handles import UpdateHandle, WorkflowHandle
from workflows.engine.client.interceptors import (
    ClientInterceptor,
    EndWorkflowInput,
    QueryWorkflowInput,
    SignalWorkflowInput,
    StartUpdateInput,
    StartWorkflowInput,
    client_chain,
)
from workflows.engine.client.replies import (
    await_reply,
    recorded_update,
    result_of,
)
from workflows.engine.clock import Clock, SystemClock
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import find_run
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys, new_id
from workflows.engine.store.records import (
    Pause,
    Reset,
    Retry,
)
from workflows.engine.store.session import ClientSession
from workflows.engine.telemetry import Telemetry
from workflows.engine.telemetry_interceptors import ClientTelemetry
from workflows.model.failures import Failure, error_of
from workflows.model.payloads import from_payload
from workflows.model.policies import ExecutionStatus, UpdateStage

T = TypeVar("T")

REPLY_S = 10.0
"""The default timeout of queries and updates."""


class Client:
    """A client of the executions of one task queue.

    ``name``: the session's name. ``identity``: the caller's name in histories, by default ``name``.
    ``files``: the archive. The first interceptor is the outermost. Signals, queries and updates
    take the name of a handler or its method.
    """

    def __init__(  # noqa: PLR0913  # each is one part that a caller may bring
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
        interceptors: Sequence[ClientInterceptor] = (),
    ) -> None:
        self.store = store
        self.keys = WorkflowKeys(keys, queue)
        self.identity = identity or name
        self.completions = Completions(store, self.keys, files)
        self._clock = clock or SystemClock()
        self._session = session = ClientSession(store, self.keys, name)
        starts = StartTransactions(
            store, self.keys, session, self.completions, self._clock, self.identity
        )
        self._calls = ClientCalls(store, self.keys, session, starts, self._clock, self.identity)
        traced = ClientTelemetry(telemetry or Telemetry())
        self._outbound = client_chain([traced, *interceptors], self._calls)

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

    # ----------------------------------------------------------------------------- starting

    async def start(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        options: StartOptions = StartOptions(),
    ) -> WorkflowHandle:
        """Start an execution.

        Raises DeadlineExceeded, StoreUnavailable, OutcomeUnknown, PayloadError, and AlreadyStarted
        if the id policies forbid the start.
        """
        name, result_type = _name_and_result_type(workflow)
        start = StartWorkflowInput(name, id, args, options)
        run_id, opened_at = await self._outbound.start_workflow(start)
        return WorkflowHandle(self, id, run_id, result_type, opened_at)

    async def signal_with_start(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        signal: str | Callable[..., Any],
        signal_args: Sequence[object] = (),
        options: StartOptions = StartOptions(),
    ) -> WorkflowHandle:
        """Signal the open execution, or start an execution with the signal, in one transaction.

        Raises the errors of ``start`` and ``signal``.
        """
        name, result_type = _name_and_result_type(workflow)
        run_id, opened_at = await self._outbound.signal_with_start_workflow(
            StartWorkflowInput(name, id, args, options),
            SignalWorkflowInput(id, reference_to(signal, "signal").name, signal_args),
        )
        return WorkflowHandle(self, id, run_id, result_type, opened_at)

    async def start_or_signal(
        self,
        workflow: str | type[Any],
        *args: object,
        id: str,  # noqa: A002 - Temporal's word
        signal: str | Callable[..., Any],
        signal_args: Sequence[object] = (),
        options: StartOptions = StartOptions(),
    ) -> None:
        """Start an execution, or signal the open execution.

        Raises LimitExceeded, StoreUnavailable, OutcomeUnknown, and AlreadyStarted if the reuse
        policy forbids the start.
        """
        while True:
            try:
                await self.start(workflow, *args, id=id, options=options)
            except AlreadyStarted as error:
                if not error.run_id:  # no open run uses the id: the reuse policy forbids the start
                    raise
            else:
                return
            with suppress(ExecutionNotFound):  # the execution has closed meanwhile
                await self.signal(id, signal, *signal_args)
                return

    def handle(self, workflow_id: str, run_id: str = "") -> WorkflowHandle:
        """The handle of an execution. ``run_id`` "": the newest run."""
        return WorkflowHandle(self, workflow_id, run_id)

    # ------------------------------------------------------------------------------ messages

    async def signal(
        self,
        workflow_id: str,
        signal: str | Callable[..., Any],
        *args: object,
        request_id: str = "",
    ) -> None:
        """Signal the open execution. Raises ExecutionNotFound, LimitExceeded.

        Two signals with one ``request_id`` are recorded once.
        """
        name, _ = reference_to(signal, "signal")
        await self._outbound.signal_workflow(
            SignalWorkflowInput(workflow_id, name, args, request_id)
        )

    async def query(
        self,
        workflow_id: str,
        query: str | Callable[..., Any],
        *args: object,
        timeout_s: float = REPLY_S,
    ) -> Any:  # noqa: ANN401 - of the handler's own type
        """Query the workflow's code. Raises CallRejected, DeadlineExceeded."""
        name, result_type = reference_to(query, "query")
        reply = await self._outbound.query_workflow(
            QueryWorkflowInput(workflow_id, name, args, timeout_s)
        )
        return from_payload(reply, result_type, what=f"the reply of {name}")

    async def update(
        self,
        workflow_id: str,
        update: str | Callable[..., Any],
        *args: object,
        update_id: str = "",
        timeout_s: float = REPLY_S,
    ) -> Any:  # noqa: ANN401 - of the handler's own type
        """Send an update and wait for the result.

        An accepted update that is sent again with its ``update_id`` is executed once. Raises the
        failure of the handler, CallRejected from the validator, and DeadlineExceeded, after which
        the update may still be executed.
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
        """Send an update and wait until the update has reached a stage.

        ADMITTED: the update is stored. ACCEPTED: a worker has validated it. Raises the errors of
        ``update``; the failure of the handler is raised only for COMPLETED.
        """
        name, result_type = reference_to(update, "update")
        sent_id = update_id or new_id(self._clock.now_ms())
        message_id, reply = await self._outbound.start_update(
            StartUpdateInput(
                workflow_id,
                sent_id,
                name,
                args,
                wait_for_stage,
                timeout_s,
                is_new=not update_id,
            )
        )
        return UpdateHandle(self, workflow_id, sent_id, name, result_type, message_id, reply)

    async def update_result(self, handle: UpdateHandle[T]) -> T:
        """See ``UpdateHandle.result``."""
        workflow_id, name, reply = handle.workflow_id, handle.name, handle.reply
        if reply is None:
            poll = partial(recorded_update, self.store, self.keys, workflow_id, handle.update_id)
            reply = await poll() or await await_reply(
                self.store, self.keys, handle.message_id, poll=poll, to_completion=True
            )
        result = result_of(reply, workflow_id, f"update {name!r}")
        value: T = from_payload(result, handle.result_type, what=f"the reply of {name}")
        return value

    async def cancel(self, workflow_id: str, reason: str = "") -> None:
        """Request cancellation. Raises ExecutionNotFound."""
        await self._outbound.cancel_workflow(EndWorkflowInput(workflow_id, reason))

    async def terminate(self, workflow_id: str, reason: str = "") -> None:
        """End the execution without running its code. Raises ExecutionNotFound."""
        await self._outbound.terminate_workflow(EndWorkflowInput(workflow_id, reason))

    async def pause(self, workflow_id: str, reason: str = "") -> None:
        """Pause the execution. ``retry`` resumes it.

        Messages are recorded, but the code does not run. Running activities continue. Raises
        ExecutionNotFound, CallRejected if already paused.
        """
        head = await self._calls.open_head(workflow_id, INBOX_URGENT_MAX)
        if head.status is ExecutionStatus.PAUSED:
            raise CallRejected(
                f"workflow {workflow_id} is paused already",
                subject=workflow_id,
                remedy="it continues after a `retry`",
            )
        await self._calls.send(workflow_id, Pause(reason, self.identity))

    async def retry(self, workflow_id: str, reason: str = "") -> None:
        """Resume a paused execution. Raises ExecutionNotFound, CallRejected if it is not paused."""
        head = await self._calls.open_head(workflow_id, INBOX_URGENT_MAX)
        if head.status is not ExecutionStatus.PAUSED:
            raise CallRejected(
                f"workflow {workflow_id} is {head.status.value}, not paused",
                subject=workflow_id,
                remedy="use `retry` for a paused execution only",
            )
        await self._calls.send(workflow_id, Retry(reason, self.identity))

    async def reset(
        self, workflow_id: str, event_id: int, *, run_id: str = "", reason: str = ""
    ) -> str:
        """Continue in a new run from the last workflow task at or before an event.

        Returns the id of the new run. Raises BadInput, ExecutionNotFound.
        """
        head = await find_run(self.store, self.keys, workflow_id, run_id)
        if not 1 <= event_id < head.next_event_id:
            raise BadInput(
                f"workflow {workflow_id} has no event {event_id}: its history has the events 1 to"
                f" {head.next_event_id - 1}",
                subject="event",
                remedy=f"see `orbctl workflow history {workflow_id}`",
            )
        await check_inbox(self.store, self.keys, workflow_id, INBOX_URGENT_MAX)
        new_run_id = new_id(self._clock.now_ms())
        message = Reset(head.run_id, event_id, new_run_id, reason, self.identity)
        await self._calls.send(workflow_id, message)
        return new_run_id

    # ------------------------------------------------------------------------------ waiting

    async def result(
        self, workflow_id: str, run_id: str = "", kind: object = Any, opened_at: int = 0
    ) -> Any:  # noqa: ANN401
        """Wait for the result. If the run continues as new, wait for the new run's result.

        ``opened_at``: a revision of the store at which the run was open, 0 if unknown. Raises
        ExecutionFailed, ExecutionNotFound.
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


def _name_and_result_type(workflow: str | type[Any]) -> tuple[str, Any]:
    if isinstance(workflow, str):
        return workflow, Any
    definition = workflow_definition(workflow)
    return definition.name, definition.run.result_type
