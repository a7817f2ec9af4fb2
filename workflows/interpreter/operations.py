"""What a run has asked others for and not heard of yet: activities, timers, children, messages.

Each operation is a future with a number of its own. Cancelling it follows its cancellation type;
an operation that was only asked for in the present task is taken back without a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from workflows.api.futures import Future, Loop
from workflows.interpreter.command_buffer import CommandBuffer
from workflows.model.commands import Command
from workflows.model.errors import LimitExceeded, PayloadError
from workflows.model.payloads import Payload, from_payload
from workflows.model.policies import CancellationType


class OperationRequest(NamedTuple):
    """What is asked for, and how it is taken back.

    ``result_type`` is what the caller expects; ``take_back`` makes the command that asks for the
    cancellation, or is None where there is no such command.
    """

    command: Command
    label: str
    result_type: object = None
    cancellation: CancellationType = CancellationType.TRY_CANCEL
    take_back: Callable[[], Command] | None = None


class Operation(Future[Any]):
    """One open operation: a command whose outcome is not known."""

    __slots__ = ("_asked", "_forget", "_requested", "request")

    def __init__(
        self,
        loop: Loop,
        asked: CommandBuffer,
        request: OperationRequest,
        forget: Callable[[], object],
    ) -> None:
        super().__init__(loop, request.label)
        self._asked = asked
        self._forget = forget
        self._requested = False
        self.request = request

    def cancel(self) -> bool:
        if self.done():
            return False
        kind = self.request.cancellation
        if kind is CancellationType.ABANDON or self._asked.withdraw(self.request.command):
            return super().cancel()
        if not self._requested and self.request.take_back is not None:
            self._requested = True
            self._asked.ask(self.request.take_back())
        if kind is CancellationType.TRY_CANCEL:
            return super().cancel()
        return True  # it stays open until its outcome is known

    def resolve(self, payload: Payload) -> None:
        """The result, as the type that the caller expects."""
        try:
            value = from_payload(
                payload, self.request.result_type, what=f"the result of {self.label}"
            )
        except PayloadError as error:
            self.set_error(error)
        else:
            self.set_result(value)

    def _finish(self, result: object, error: BaseException | None) -> None:
        self._forget()
        super()._finish(result, error)


class OpenOperations:
    """The open operations of one kind, by number. ``limit`` bounds them, ``name`` is its name."""

    __slots__ = ("_asked", "_last", "_limit", "_loop", "_name", "_open")

    def __init__(self, loop: Loop, asked: CommandBuffer, name: str, limit: int) -> None:
        self._loop = loop
        self._asked = asked
        self._name = name
        self._limit = limit
        self._last = 0
        self._open: dict[int, Operation] = {}

    def next_number(self) -> int:
        """The number for a new operation; LimitExceeded while too many are open."""
        self._asked.must_not_read("started something")
        if len(self._open) >= self._limit:
            raise LimitExceeded(f"{self._name}: {self._limit} are open; await some of them first")
        self._last += 1
        return self._last

    def start(self, number: int, request: OperationRequest) -> Operation:
        """Ask for it and keep it until its outcome is known."""
        self._asked.ask(request.command)
        return self.listen(number, request)

    def listen(self, number: int, request: OperationRequest) -> Operation:
        """Keep a second operation for something that was asked for already."""
        operation = Operation(
            self._loop, self._asked, request, lambda: self._open.pop(number, None)
        )
        self._open[number] = operation
        return operation

    def get(self, number: int) -> Operation | None:
        """The open operation of that number; None if it was cancelled or is done."""
        return self._open.get(number)
