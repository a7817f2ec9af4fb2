"""What a retirement waits for: a word that something changed, the slow look, its deadline.

Looks that find nothing new come ever more slowly, up to a bound: the signal from the projection is
what wakes it, the look is for a signal that was lost. So a retirement costs nothing while nothing
happens, and never sleeps for good.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from workflows.api import workflow
from workflows.jobs.descriptions import now_s, utc, words
from workflows.jobs.retirement.retirement_values import (
    LOOK,
    ORDER,
    ContinuedRetirement,
    RemainingClaims,
    RetirementRequest,
)
from workflows.model.payloads import Payload

PAUSE_S_MIN: Final = 60.0
"""Between the first two looks, if nobody says a word."""

PAUSE_S_MAX: Final = 3_600.0
"""Between two looks after a long time without news."""

PAUSE_FACTOR: Final = 2.0


def pause_s(quiet_looks: int) -> float:
    """The pause after so many looks in a row that found what the one before had found."""
    doublings = min(quiet_looks, 16)
    return min(PAUSE_S_MIN * PAUSE_FACTOR**doublings, PAUSE_S_MAX)


class RetirementWait:
    """The patience of one execution. Lives inside workflow code."""

    def __init__(self, order: RetirementRequest, carry: ContinuedRetirement) -> None:
        self.order = order
        self.since_s = carry.since_s or now_s()
        self.ordered_s = carry.ordered_s or now_s()
        self.quiet_looks = carry.quiet_looks
        self.left = carry.left
        self.fault = ""
        self._woken = False
        workflow.set_signal_handler(LOOK, self.wake)
        workflow.set_signal_handler(ORDER, self._take)

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline is over."""
        return 0 < self._deadline_s() <= now_s()

    def wake(self) -> None:
        """Something may have changed."""
        self._woken = True

    def looking(self) -> None:
        """A look begins: it sees whatever was said before it."""
        self._woken = False

    def found(self, left: RemainingClaims) -> None:
        """Take in what a look found."""
        is_news = (left.in_the_way, left.state) != (self.left.in_the_way, self.left.state)
        self.quiet_looks = 0 if is_news else self.quiet_looks + 1
        self.left, self.fault = left, ""
        self._tell()

    def failed(self, error: BaseException) -> None:
        """A look failed for good: the next one comes as usual."""
        self.fault = words(error)

    async def wait(self) -> None:
        """Until a word, the deadline or the next look, whichever comes first."""
        due_s = now_s() + pause_s(self.quiet_looks)
        if not self.is_overdue and self._deadline_s():
            due_s = min(due_s, self._deadline_s())
        with suppress(workflow.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, max(due_s - now_s(), 0.001))

    def status(self) -> dict[str, Payload]:
        """For the query: how much is left, who holds it, since when, until when."""
        left = self.left
        return {
            "state": "overdue" if self.is_overdue and left.state == "held" else left.state,
            "since": utc(self.since_s),
            "deadline": utc(self._deadline_s()),
            "at_deadline": self.order.at_deadline if self._deadline_s() else "",
            "ordered_by": self.order.ordered_by,
            "claims": left.claims,
            "holders": [holder._asdict() for holder in left.holders],
            "pools": left.pool_count,
            "pool_names": list(left.pools),
            "fault": self.fault,
        }

    def carry(self) -> ContinuedRetirement:
        """For the next run."""
        return ContinuedRetirement(self.since_s, self.ordered_s, self.quiet_looks, self.left)

    def took_s(self) -> float:
        """How long it has taken so far."""
        return round(now_s() - self.since_s, 3)

    def _take(self, order: RetirementRequest) -> None:
        self.order, self.ordered_s = order, now_s()
        self.wake()

    def _deadline_s(self) -> float:
        return self.ordered_s + self.order.deadline_s if self.order.deadline_s else 0.0

    def _tell(self) -> None:
        workflow.upsert_search_attributes(
            {"RetirementLeft": self.left.in_the_way, "RetirementOverdue": self.is_overdue}
        )
