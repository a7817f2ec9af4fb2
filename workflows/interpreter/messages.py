"""Calls the handlers of the signals, queries and updates of one run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from workflows.api.context import Future, Loop, Task
from workflows.api.definitions import Handler, WorkflowDefinition, handler_of
from workflows.api.interceptors import HandleMessageInput, WorkflowInbound
from workflows.interpreter.operations import CommandBuffer
from workflows.model import events as ev
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.errors import (
    ApplicationError,
    CancelledError,
    FailureError,
    LimitExceeded,
    PayloadError,
    QueryError,
    WorkflowTaskError,
)
from workflows.model.failures import failure_of
from workflows.model.limits import SIGNALS_BUFFERED_MAX
from workflows.model.payloads import Payload, to_payload


class Messages:
    """The handlers of one run, and the signals that wait for a handler.

    ``on_error`` gets exceptions that end the run or the workflow task.
    """

    def __init__(
        self,
        loop: Loop,
        commands: CommandBuffer,
        definition: WorkflowDefinition,
        inbound: WorkflowInbound,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._commands = commands
        self._inbound = inbound
        self._on_error = on_error
        self._instance: object = None
        self._signals = dict(definition.signals)
        self._queries = dict(definition.queries)
        self._updates = definition.updates
        self._validators = definition.validators
        self._buffered: list[ev.WorkflowExecutionSignaled] = []
        self.running_handlers = 0

    @property
    def queries(self) -> tuple[str, ...]:
        """The names of the queries that have a handler."""
        return tuple(sorted(self._queries))

    def bind(self, instance: object) -> None:
        """Set the object whose handlers are called."""
        self._instance = instance

    def unbind(self) -> None:
        """Drop the references to the run and its object."""
        self._instance = None
        self._on_error = _ignore_error

    def set_handler(self, kind: str, name: str, function: Callable[..., Any] | None) -> None:
        """Set a handler; ``function`` None removes it. A new handler gets the waiting signals."""
        handlers = self._signals if kind == "signal" else self._queries
        if function is None:
            handlers.pop(name, None)
            return
        handler = handler_of(function, name, method=False)
        handlers[name] = handler._replace(function=lambda _, *args: function(*args))
        if kind == "signal":
            waiting_signals = [signal for signal in self._buffered if signal.signal_name == name]
            self._buffered = [signal for signal in self._buffered if signal.signal_name != name]
            for signal in waiting_signals:
                self.signal(signal)

    def signal(self, event: ev.WorkflowExecutionSignaled) -> None:
        """Run the handler of a signal, or keep the signal until it has a handler."""
        handler = self._signals.get(event.signal_name)
        if handler is None:
            if len(self._buffered) >= SIGNALS_BUFFERED_MAX:
                raise LimitExceeded(
                    f"SIGNALS_BUFFERED_MAX: {SIGNALS_BUFFERED_MAX} signals wait for a handler, and"
                    f" {event.signal_name} has none; add a handler to the workflow"
                )
            self._buffered.append(event)
            return
        coroutine = self._handle_signal(handler, event)
        self._start(coroutine, f"signal {event.signal_name}", self._signal_done)

    async def _handle_signal(self, handler: Handler, event: ev.WorkflowExecutionSignaled) -> None:
        await self._inbound.handle_signal(self._message(event.signal_name, handler, event.args))

    def validate(self, request: UpdateRequest) -> UpdateRejection | None:
        """The rejection of an update; None if it is accepted. The validator may only read."""
        handler = self._updates.get(request.update_name)
        if handler is None:
            names = ", ".join(sorted(self._updates)) or "none"
            message = f"no update {request.update_name}; this workflow has: {names}"
            error = ApplicationError(message, type="UnknownUpdate", non_retryable=True)
            return UpdateRejection(request.update_id, failure_of(error))
        validator = self._validators.get(request.update_name)
        try:
            name, update_id = request.update_name, request.update_id
            update = self._message(name, handler, request.args, update_id)
            function = _accept if validator is None else partial(validator.function, self._instance)
            with self._read_only(f"the validator of {name}"):
                self._inbound.handle_update_validator(update._replace(function=function))
        except WorkflowTaskError:
            raise
        except Exception as error:  # noqa: BLE001 - any exception of a validator is a refusal
            return UpdateRejection(request.update_id, failure_of(error))
        return None

    def update(self, event: ev.WorkflowExecutionUpdateAccepted) -> None:
        """Run the handler of an accepted update; its outcome becomes a command."""
        self._commands.issue(event)
        handler = self._updates[event.update_name]
        done = partial(self._update_done, event.update_id)
        self._start(self._handle_update(handler, event), f"update {event.update_name}", done)

    async def _handle_update(
        self, handler: Handler, event: ev.WorkflowExecutionUpdateAccepted
    ) -> Any:  # noqa: ANN401
        message = self._message(event.update_name, handler, event.args, event.update_id)
        return await self._inbound.handle_update_handler(message)

    def query(self, name: str, args: Sequence[Payload]) -> Payload:
        """The result of a query's handler, which may only read. Raises QueryError."""
        handler = self._queries.get(name)
        if handler is None:
            names = ", ".join(self.queries) or "none"
            raise QueryError(f"no query {name}; this workflow has: {names}")
        with self._read_only(f"query {name}"):
            try:
                result = self._inbound.handle_query(self._message(name, handler, args))
                if inspect.iscoroutine(result):
                    result.close()
                    raise QueryError(f"the handler of query {name} is async: use a plain function")
                return to_payload(result, what=f"the result of query {name}")
            except (QueryError, WorkflowTaskError):
                raise
            except Exception as error:
                raise QueryError(f"query {name} failed: {error}") from error

    @contextmanager
    def _read_only(self, caller: str) -> Iterator[None]:
        self._commands.reader = caller
        try:
            yield
        finally:
            self._commands.reader = ""

    def _start(
        self, coroutine: Coroutine[Any, Any, Any], label: str, done: Callable[[Future[Any]], None]
    ) -> None:
        self.running_handlers += 1
        task: Task[Any] = Task(self._loop, coroutine, label)
        task.add_done_callback(done)

    def _message(
        self, name: str, handler: Handler, payloads: Sequence[Payload], update_id: str = ""
    ) -> HandleMessageInput:
        function = partial(handler.function, self._instance)
        return HandleMessageInput(name, function, handler.arguments(payloads), update_id)

    def _signal_done(self, task: Future[Any]) -> None:
        self.running_handlers -= 1
        error = task.exception()
        # A signal that cannot be decoded must not stop the run: the sender made the mistake.
        if error is not None and not isinstance(error, CancelledError | PayloadError):
            self._on_error(error)

    def _update_done(self, update_id: str, task: Future[Any]) -> None:
        self.running_handlers -= 1
        error = task.exception()
        if error is None:
            result = to_payload(task.result(), what=f"the result of update {update_id}")
            self._commands.issue(ev.WorkflowExecutionUpdateCompleted(update_id, result))
        elif isinstance(error, FailureError | CancelledError | PayloadError):
            failure = failure_of(error)
            self._commands.issue(ev.WorkflowExecutionUpdateCompleted(update_id, failure=failure))
        else:
            self._on_error(error)


def _ignore_error(_: BaseException) -> None:
    return


def _accept(*_: object) -> None:
    """The default validator: accept every update."""
