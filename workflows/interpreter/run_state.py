"""The state of one run: its code, its pending operations, its commands.

``Run`` implements the functions of ``workflows.api.workflow``.
"""

from __future__ import annotations

import hashlib
import inspect
import random
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from workflows.api.context import ChildFutures, ContinueAsNew, Future, Loop, Task
from workflows.api.definitions import ID_RULE, WorkflowDefinition, is_id
from workflows.api.interceptors import (
    ExecuteWorkflowInput,
    HandleMessageInput,
    Interceptor,
    SignalExternalInput,
    StartActivityInput,
    StartChildInput,
    WorkflowInbound,
    WorkflowOutbound,
)
from workflows.api.options import ActivityOptions, ChildOptions, WorkflowInfo
from workflows.interpreter.messages import Messages
from workflows.interpreter.operations import (
    Children,
    ChildState,
    CommandBuffer,
    OpenOperations,
    OperationRequest,
)
from workflows.model import events as ev
from workflows.model.commands import Command
from workflows.model.errors import (
    CancelledError,
    FailureError,
    LimitExceeded,
    UnhandledError,
    WorkflowTaskError,
)
from workflows.model.failures import failure_of
from workflows.model.limits import (
    PENDING_ACTIVITIES_MAX,
    PENDING_EXTERNAL_MAX,
    PENDING_TIMERS_MAX,
    SEARCH_ATTRIBUTES_MAX,
    TIMER_S_MAX,
)
from workflows.model.payloads import Payload, to_payload, to_payloads
from workflows.model.policies import RetryPolicy, Timeouts

PATCH_MARKER = "patch"


class Run:
    """One run of one workflow, from its first event until ``close``."""

    def __init__(
        self,
        definition: WorkflowDefinition,
        first: ev.HistoryEvent,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        assert isinstance(first.attributes, ev.WorkflowExecutionStarted), first.event_type
        self.definition = definition
        self.started = first.attributes
        self.start_time_ms = first.event_time_ms
        self.loop = Loop()
        self.commands = CommandBuffer()
        self.activities = OpenOperations(
            self.loop, self.commands, "PENDING_ACTIVITIES_MAX", PENDING_ACTIVITIES_MAX
        )
        self.timers = OpenOperations(
            self.loop, self.commands, "PENDING_TIMERS_MAX", PENDING_TIMERS_MAX
        )
        self.externals = OpenOperations(
            self.loop, self.commands, "PENDING_EXTERNAL_MAX", PENDING_EXTERNAL_MAX
        )
        self.children = Children(self.loop, self.commands, self.externals.next_number)
        self._inbound, self._outbound = _intercepted(interceptors, self)
        self.messages = Messages(
            self.loop, self.commands, definition, self._inbound, self._handler_failed
        )
        self.search_attributes: dict[str, Payload] = dict(self.started.search_attributes)
        self.now_ms = first.event_time_ms
        self.replaying = False
        self.cancel_requested = False
        self.closed = False
        self.known_patches: set[str] = set()
        self._patches: dict[str, bool] = {}
        self._task_started = (0, ev.WorkflowTaskStarted())
        self._instance: object = None
        self._main: Task[Any] | None = None
        self._random: random.Random | None = None

    # ---------------------------------------------------------------- for the interpreter

    def begin(self, started: ev.HistoryEvent, *, replaying: bool) -> None:
        """Start a workflow task. Its time becomes ``now_ms``, which never decreases."""
        assert isinstance(started.attributes, ev.WorkflowTaskStarted), started.event_type
        self.now_ms = max(self.now_ms, started.event_time_ms)
        self.replaying = replaying
        self._task_started = (started.event_id, started.attributes)

    def create(self) -> None:
        """Create the workflow's object: signal handlers can run before the workflow function."""
        try:
            self._instance = self.definition.cls()
        except WorkflowTaskError:
            raise
        except Exception as error:
            raise UnhandledError(
                f"creating an object of workflow {self.definition.name} failed: {error!r}"
            ) from error
        self.messages.bind(self._instance)

    def start_main(self) -> None:
        """Call the workflow function."""
        self._main = Task(self.loop, self._call_main(), self.definition.name)
        self._main.add_done_callback(self._end_with)

    def request_cancel(self) -> None:
        """Cancel the workflow function."""
        assert self._main is not None, "a cancel request came before the start"
        self.cancel_requested = True
        self._main.cancel()

    def waiting_for(self) -> tuple[str, ...]:
        """What each task awaits, such as ``signal stop: activity release #3``."""
        return tuple(f"{task.label}: {task.waiting_for}" for task in self.loop.tasks)

    def end(self) -> None:
        """Run no more code; queries still work."""
        self.closed = self.loop.stopped = True

    def close(self) -> None:
        """Close all tasks of the code."""
        self.loop.close()

    async def _call_main(self) -> object:
        run = self.definition.run
        function = partial(run.function, self._instance)
        arguments = run.arguments(self.started.args)
        return await self._inbound.execute_workflow(
            ExecuteWorkflowInput(self.definition.name, function, arguments)
        )

    def _end_with(self, outcome: Future[Any]) -> None:
        name, cancel = self.definition.name, self.cancel_requested
        self.commands.issue(closing_command(outcome, name, cancel_requested=cancel))
        self.end()

    def _handler_failed(self, error: BaseException) -> None:
        outcome: Future[Any] = Future(self.loop)
        outcome.set_error(error)
        self._end_with(outcome)

    # -------------------------------------------------------------------- for workflow code

    def info(self) -> WorkflowInfo:
        """The data of the run."""
        event_id, task = self._task_started
        started = self.started
        return WorkflowInfo(
            started.workflow_type,
            started.workflow_id,
            started.run_id,
            started.first_run_id or started.run_id,
            started.continued_run_id,
            started.task_queue,
            started.parent,
            self.start_time_ms,
            started.run_timeout_s,
            started.trigger,
            started.traceparent,
            dict(self.search_attributes),
            event_id,
            task.history_bytes,
            task.suggest_continue_as_new,
            dict(started.memo),
        )

    def random(self) -> random.Random:
        """A generator seeded by the run id. Every replay draws the same numbers."""
        self.commands.check_not_reading("drew a random number")
        if self._random is None:
            self._random = random.Random(_seed(self.started.run_id))  # noqa: S311 - it must repeat
        return self._random

    def start_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Start an activity through the interceptors."""
        return self._outbound.start_activity(StartActivityInput(name, args, options, result_type))

    def start_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildFutures:
        """Start a child workflow through the interceptors."""
        return self._outbound.start_child(StartChildInput(name, args, options, result_type))

    def signal_external(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Signal ``target`` (type, id, run id or "") through the interceptors.

        The future is done when the target's history has the signal.
        """
        return self._outbound.signal_external(SignalExternalInput(*target, name, args))

    def start_task(self, coroutine: Coroutine[Any, Any, Any], label: str) -> Task[Any]:
        """Run a coroutine concurrently."""
        if self.commands.reader:  # a query or validator runs and may only read
            coroutine.close()
        self.commands.check_not_reading("started a task")
        return Task(self.loop, coroutine, label)

    def start_timer(self, seconds: float, label: str) -> Future[None]:
        """A future that is done after ``seconds``. Cancelling the future cancels the timer."""
        if not seconds <= TIMER_S_MAX:  # NaN is rejected too
            raise LimitExceeded(
                f"a timer of {seconds} s: at most {TIMER_S_MAX:,.0f} s (TIMER_S_MAX) are allowed"
            )
        number = self.timers.next_number()
        command = ev.TimerStarted(number, seconds)
        request = OperationRequest(command, label, cancel_command=lambda: ev.TimerCanceled(number))
        return self.timers.start(number, request)

    def request_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Issue the command for an activity. The innermost interceptor calls this."""
        number = self.activities.next_number()
        payloads = to_payloads(args, what=f"the arguments of activity {name}")
        command = ev.ActivityTaskScheduled(
            number,
            name,
            payloads,
            timeouts=_recorded_timeouts(name, options),
            retry_policy=_recorded_policy(options.retry),
        )
        request = OperationRequest(
            command,
            f"activity {name} #{number}",
            result_type,
            options.cancellation,
            lambda: ev.ActivityTaskCancelRequested(number),
        )
        return self.activities.start(number, request)

    def request_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildState:
        """Issue the command for a child. The innermost interceptor calls this."""
        if options.workflow_id:
            self._check_id(options.workflow_id)
        payloads = to_payloads(args, what=f"the arguments of child {name}")
        return self.children.start(name, payloads, options, self.started.workflow_id, result_type)

    def request_signal(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Issue the command for a signal to ``target``. The innermost interceptor calls this."""
        kind, workflow_id, run_id = target
        self._check_id(workflow_id)
        number = self.externals.next_number()
        payloads = to_payloads(args, what=f"the arguments of signal {name}")
        command = ev.SignalExternalWorkflowExecutionInitiated(
            number, kind, workflow_id, name, payloads, run_id
        )
        return self.externals.start(
            number, OperationRequest(command, f"signal {name} to {workflow_id}")
        )

    def cancel_external(self, target: tuple[str, str, str]) -> Future[None]:
        """Request the cancellation of ``target`` (type, id, run id or "")."""
        kind, workflow_id, run_id = target
        self._check_id(workflow_id)
        number = self.externals.next_number()
        command = ev.RequestCancelExternalWorkflowExecutionInitiated(
            number, kind, workflow_id, run_id=run_id
        )
        return self.externals.start(
            number, OperationRequest(command, f"cancellation of {workflow_id}")
        )

    def _check_id(self, workflow_id: str) -> None:
        if not self.replaying and not is_id(workflow_id):
            raise LimitExceeded(f"{workflow_id[:64]!r} is not a valid workflow id: use {ID_RULE}")

    def patched(self, patch_id: str, *, deprecated: bool) -> bool:
        """Whether to run the new code of a patch: in a replay, only if the history has its marker.

        The first result counts for the whole run. A marker records True, but not if a query or
        validator asks.
        """
        is_recorded = patch_id in self.known_patches
        if patch_id in self._patches or self.commands.reader:
            return self._patches.get(patch_id, is_recorded)
        is_patched = self._patches[patch_id] = is_recorded or not self.replaying
        if is_patched:
            self.commands.issue(ev.MarkerRecorded(PATCH_MARKER, patch_id, deprecated))
        return is_patched

    def upsert_search_attributes(self, attributes: Mapping[str, Payload]) -> None:
        """Set search attributes; the value None removes one."""
        plain = to_payload(attributes, what="search attributes")
        after = {
            name: v for name, v in {**self.search_attributes, **plain}.items() if v is not None
        }
        if len(after) > SEARCH_ATTRIBUTES_MAX:
            raise LimitExceeded(
                f"{len(after)} search attributes, SEARCH_ATTRIBUTES_MAX is {SEARCH_ATTRIBUTES_MAX}:"
                " remove some by setting them to None"
            )
        self.commands.issue(ev.UpsertWorkflowSearchAttributes(plain))
        self.search_attributes = after

    def set_handler(self, kind: str, name: str, function: Callable[..., Any] | None) -> None:
        """Set the handler of a "signal" or "query"; None removes it."""
        self.commands.check_not_reading("set a handler")
        self.messages.set_handler(kind, name, function)

    def handlers_running(self) -> int:
        """The number of running signal and update handlers."""
        return self.messages.running_handlers


def _recorded_timeouts(name: str, options: ActivityOptions) -> Timeouts:
    if not (options.start_to_close_s or options.schedule_to_close_s):
        raise ValueError(
            f"activity {name} has no timeout: set start_to_close_s or schedule_to_close_s"
        )
    return Timeouts(
        schedule_to_close_s=options.schedule_to_close_s,
        schedule_to_start_s=options.schedule_to_start_s,
        start_to_close_s=options.start_to_close_s,
        heartbeat_s=options.heartbeat_s,
    )


def _recorded_policy(policy: RetryPolicy) -> RetryPolicy:
    return policy._replace(pause_when_exhausted=bool(policy.pause_when_exhausted))


def _seed(run_id: str) -> int:
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big")


def closing_command(outcome: Future[Any], name: str, *, cancel_requested: bool) -> Command:
    """The command that ends a run. Raises UnhandledError for an exception that is not a failure."""
    error = outcome.exception()
    match error:
        case None:
            what = f"the result of {name}"
            return ev.WorkflowExecutionCompleted(to_payload(outcome.result(), what=what))
        case ContinueAsNew():
            return error.command
        case CancelledError() if cancel_requested:
            return ev.WorkflowExecutionCanceled(str(error))
        case FailureError() | CancelledError():
            return ev.WorkflowExecutionFailed(failure_of(error))
    raise UnhandledError(f"{name} raised an exception: {error!r}") from error


class _CallCode(WorkflowInbound):
    """The innermost interceptor of calls into workflow code.

    ``outbound``: the outermost interceptor of the code's requests.
    """

    def __init__(self) -> None:
        """The innermost interceptor has no inner one."""

    def init(self, outbound: WorkflowOutbound) -> None:
        self.outbound = outbound

    async def execute_workflow(self, call: ExecuteWorkflowInput) -> Any:  # noqa: ANN401 - the workflow's type
        return await call.function(*call.args)

    async def handle_signal(self, message: HandleMessageInput) -> None:
        await _call_handler(message)

    def handle_query(self, message: HandleMessageInput) -> Any:  # noqa: ANN401 - the handler's type
        return message.function(*message.args)

    def handle_update_validator(self, message: HandleMessageInput) -> None:
        message.function(*message.args)

    async def handle_update_handler(self, message: HandleMessageInput) -> Any:  # noqa: ANN401 - the handler's type
        return await _call_handler(message)


async def _call_handler(message: HandleMessageInput) -> Any:  # noqa: ANN401 - the handler's type
    outcome = message.function(*message.args)
    return await outcome if inspect.isawaitable(outcome) else outcome


class _IssueCommands(WorkflowOutbound):
    """The innermost interceptor of requests, which become commands of the run."""

    def __init__(self, run: Run) -> None:
        # A strong reference would be a cycle, which keeps a closed run alive.
        self._run: Run = weakref.proxy(run)

    def start_activity(self, request: StartActivityInput) -> Future[Any]:
        return self._run.request_activity(*request)

    def start_child(self, request: StartChildInput) -> ChildFutures:
        return self._run.request_child(*request)

    def signal_external(self, request: SignalExternalInput) -> Future[None]:
        kind, workflow_id, run_id, signal, args = request
        return self._run.request_signal((kind, workflow_id, run_id), signal, args)


def _intercepted(
    interceptors: Sequence[Interceptor], run: Run
) -> tuple[WorkflowInbound, WorkflowOutbound]:
    """The outermost interceptors of calls into the run's code, and of its requests."""
    innermost = _CallCode()
    outermost: WorkflowInbound = innermost
    for interceptor in reversed(interceptors):
        if interceptor.workflow_inbound is not None:
            outermost = interceptor.workflow_inbound(outermost)
    outermost.init(_IssueCommands(run))
    return outermost, innermost.outbound
