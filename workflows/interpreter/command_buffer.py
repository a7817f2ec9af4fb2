"""The commands of the present workflow task, in the order in which code asked for them."""

from __future__ import annotations

from workflows.model.commands import Command
from workflows.model.errors import LimitExceeded, QueryError
from workflows.model.limits import COMMANDS_MAX


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
