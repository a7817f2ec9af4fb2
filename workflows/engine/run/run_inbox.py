"""What has reached an execution and is not in its history yet: the queue in front of its steps.

A step takes a portion of it: what one transaction of etcd carries, with room left for what the code
asks for. While messages are left behind the code does not run (``InboxBatch.is_whole``), so a run
never ends on half of its inbox. Messages that ask something are taken after all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from workflows.engine.run.received_events import ActivityOutcome
from workflows.engine.store.records import InboxMessage, Query, Reset, Update
from workflows.model.payloads import payload_bytes

PORTION_MAX = 24
"""Messages of one step, and as many ends of activities; each may cost two writes."""

PORTION_BYTES_MAX = 128 * 1024
"""Of one step's messages, and as much of its ends of activities; one alone may be larger."""

T = TypeVar("T")


class InboxBatch(NamedTuple):
    """What one step works on; ``mail``: the mail key was seen up to this revision.

    ``fired``: timers that are due, and deadlines of the run as negative milliseconds.

    ``is_whole`` False: more messages are waiting, which the code must see before it goes on.
    """

    letters: list[InboxMessage]
    outcomes: list[ActivityOutcome]
    fired: list[int]
    mail: int
    is_whole: bool = True


class RunInbox:
    """In order of arrival."""

    def __init__(self) -> None:
        self.letters: list[InboxMessage] = []
        self.outcomes: list[ActivityOutcome] = []
        self.fired: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.letters or self.outcomes or self.fired)

    def take_reset(self) -> InboxMessage | None:
        """A reset, which comes before everything else."""
        found = next((each for each in self.letters if isinstance(each.message, Reset)), None)
        if found is not None:
            self.letters.remove(found)
        return found

    def take(self, mail: int) -> InboxBatch:
        """A portion."""
        asking = [each for each in self.letters if isinstance(each.message, Query | Update)]
        telling = [each for each in self.letters if not isinstance(each.message, Query | Update)]
        told, left = _portion(telling, lambda letter: letter.size)
        asked, waiting = ([], asking) if left else _portion(asking, lambda letter: letter.size)
        outcomes, later = _portion(self.outcomes, payload_bytes)
        taken = InboxBatch([*told, *asked], outcomes, self.fired, mail, not left)
        self.letters, self.outcomes, self.fired = [*left, *waiting], later, []
        return taken

    def put_back(self, taken: InboxBatch) -> None:
        """It is not in the history after all."""
        self.letters = taken.letters + self.letters
        self.outcomes = taken.outcomes + self.outcomes
        self.fired = taken.fired + self.fired

    def put_back_reset(self, letter: InboxMessage) -> None:
        """It has not been decided yet."""
        self.letters.insert(0, letter)

    def take_letters(self) -> list[InboxMessage]:
        """All messages, for whoever follows."""
        letters, self.letters = self.letters, []
        return letters


def _portion(arrived: Sequence[T], size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The first of them, within the bounds but at least one, and the rest."""
    if len(arrived) <= 1:
        return list(arrived), []
    total = 0
    for index, one in enumerate(arrived):
        total += size(one)
        if index and (index == PORTION_MAX or total > PORTION_BYTES_MAX):
            return list(arrived[:index]), list(arrived[index:])
    return list(arrived), []
