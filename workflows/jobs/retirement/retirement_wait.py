"""The waits of a retirement: until a signal, the next regular step, or the deadline.

The leader signals when nothing blocks the deletion. Regular steps make up for a lost signal.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from workflows.api import workflow
from workflows.jobs.activity_options import failure_text, now_s, utc
from workflows.jobs.retirement.retirement_values import (
    CHECK_SIGNAL,
    REQUEST_SIGNAL,
    ContinuedRetirement,
    RemainingClaims,
    RetirementRequest,
)
from workflows.model.payloads import Payload

PAUSE_S_MIN: Final = 60.0
"""The pause after a step with a change."""

PAUSE_S_MAX: Final = 3_600.0
PAUSE_FACTOR: Final = 2.0
"""The growth of the pause after a step without a change."""


def pause_s(unchanged_steps: int) -> float:
    """The pause after so many consecutive steps without a change."""
    doublings = min(unchanged_steps, 16)  # a larger exponent may overflow
    return min(PAUSE_S_MIN * PAUSE_FACTOR**doublings, PAUSE_S_MAX)


class RetirementWait:
    """The waits and the status of one retirement, for workflow code.

    ``ordered_s``: the time of the last request, from which the deadline counts, in Unix seconds.
    """

    def __init__(self, request: RetirementRequest, continued: ContinuedRetirement) -> None:
        self.request = request
        self.since_s = continued.since_s or now_s()
        self.ordered_s = continued.ordered_s or now_s()
        self.unchanged_steps = continued.unchanged_steps
        self.remaining = continued.left
        self.fault = ""
        self._is_signalled = False
        workflow.set_signal_handler(CHECK_SIGNAL, self.wake)
        workflow.set_signal_handler(REQUEST_SIGNAL, self._receive_request)

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline has passed."""
        return 0 < self._deadline_s() <= now_s()

    def wake(self) -> None:
        """End the wait."""
        self._is_signalled = True

    def note_step(self) -> None:
        """Note the start of a step, which handles all earlier signals."""
        self._is_signalled = False

    def note_remaining(self, remaining: RemainingClaims) -> None:
        """Note the result of a step."""
        has_changed = (remaining.blocking, remaining.state) != (
            self.remaining.blocking,
            self.remaining.state,
        )
        self.unchanged_steps = 0 if has_changed else self.unchanged_steps + 1
        self.remaining, self.fault = remaining, ""
        self._publish()

    def note_failure(self, error: BaseException) -> None:
        """Note that all attempts at a step failed."""
        self.fault = failure_text(error)

    async def wait(self) -> None:
        """Wait for a signal, the deadline or the next regular step."""
        due_s = now_s() + pause_s(self.unchanged_steps)
        if not self.is_overdue and self._deadline_s():
            due_s = min(due_s, self._deadline_s())
        with suppress(workflow.TimeoutError):
            await workflow.wait_condition(lambda: self._is_signalled, max(due_s - now_s(), 0.001))

    def status(self) -> dict[str, Payload]:
        """The result of the query ``status``."""
        remaining = self.remaining
        return {
            "state": "overdue"
            if self.is_overdue and remaining.state == "held"
            else remaining.state,
            "since": utc(self.since_s),
            "deadline": utc(self._deadline_s()),
            "at_deadline": self.request.at_deadline if self._deadline_s() else "",
            "ordered_by": self.request.ordered_by,
            "claims": remaining.claims,
            "holders": [holder._asdict() for holder in remaining.holders],
            "pools": remaining.pool_count,
            "pool_names": list(remaining.pools),
            "fault": self.fault,
        }

    def continued(self) -> ContinuedRetirement:
        """The state for the next run."""
        return ContinuedRetirement(
            self.since_s, self.ordered_s, self.unchanged_steps, self.remaining
        )

    def took_s(self) -> float:
        """Seconds since the retirement began."""
        return round(now_s() - self.since_s, 3)

    def _receive_request(self, request: RetirementRequest) -> None:
        self.request, self.ordered_s = request, now_s()
        self.wake()

    def _deadline_s(self) -> float:
        return self.ordered_s + self.request.deadline_s if self.request.deadline_s else 0.0

    def _publish(self) -> None:
        workflow.upsert_search_attributes(
            {"RetirementLeft": self.remaining.blocking, "RetirementOverdue": self.is_overdue}
        )
