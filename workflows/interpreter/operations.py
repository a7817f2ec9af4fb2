"""The commands of a run, and the operations that it awaits: activities, timers, children, messages.

``CommandBuffer`` collects the commands of the current workflow task. ``Matcher`` compares them with
the events that must record them: at once when a history is replayed, or with the next events when
the interpreter is cached. A difference is a NonDeterminismError.

Each ``Operation`` is a future with a number. Cancelling it follows its cancellation type; an
operation that was requested in the current task is withdrawn and leaves no event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from workflows.api.futures import Future, Loop
from workflows.model import events as ev
from workflows.model.commands import Command, describe, same
from workflows.model.errors import LimitExceeded, NonDeterminismError, PayloadError, QueryError
from workflows.model.limits import COMMANDS_MAX
from workflows.model.payloads import Payload, from_payload
from workflows.model.policies import CancellationType


class CommandBuffer:
    """Collects commands. While ``reading`` (a query or validator runs) nothing may be asked."""

    __slots__ = ("_commands", "reading")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self.reading = ""

    def ask(self, command: Command) -> None:
        """Append; QueryError while reading, LimitExceeded beyond the bound of a task."""
        self.must_not_read("asked for something")
        if len(self._commands) >= COMMANDS_MAX:
            raise LimitExceeded(f"COMMANDS_MAX: more than {COMMANDS_MAX} in one workflow task")
        self._commands.append(command)

    def withdraw(self, command: Command) -> bool:
        """Take back what this very task asked for; False if it is in the history already."""
        self.must_not_read("took something back")
        for index in range(len(self._commands) - 1, -1, -1):
            if self._commands[index] is command:
                del self._commands[index]
                return True
        return False

    def must_not_read(self, what: str) -> None:
        """QueryError if a query or validator is what runs."""
        if self.reading:
            raise QueryError(f"{self.reading} {what}: it may only look")

    def take(self) -> tuple[Command, ...]:
        """The commands of the task that ends now."""
        commands, self._commands = tuple(self._commands), []
        return commands


class Matcher:
    """The commands that have no event yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()

    def expect(self, commands: Iterable[Command]) -> None:
        """These were produced; their events come next."""
        self._waiting.extend(commands)

    def match(self, event: ev.HistoryEvent) -> None:
        """``event`` records a command: it must be the next one."""
        recorded = event.attributes
        if self._waiting and same(self._waiting[0], recorded):
            self._waiting.popleft()
            return
        if isinstance(recorded, ev.MarkerRecorded) and recorded.deprecated:
            return  # the code no longer asks for a patch that every history has: as announced
        requested = describe(self._waiting[0]) if self._waiting else "nothing"
        raise NonDeterminismError(event.event_id, expected=describe(recorded), requested=requested)

    def nothing_left(self, event_id: int, what: str) -> None:
        """At ``event_id`` the events of the last task are over; ``what`` is there instead."""
        if self._waiting:
            raise NonDeterminismError(event_id, expected=what, requested=describe(self._waiting[0]))


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
