"""External binding as a durable workflow: the provider knows an address exactly as long as we do.

Binding: our claim is there; the provider is asked; what it chose goes into the books. If it does
not work in time, or the claim has ended meanwhile, everything is taken back. Giving back: the
provider lets go of every address, then our claims end. While the provider is away the claims stay,
so nobody else gets the addresses; after the last attempt the execution is paused for a human.

One execution at a time has a Pod's id, so that binding and giving back never overlap: a Pod that is
given back while it is being bound is given back by the same run.
"""

from __future__ import annotations

from typing import Final

from core.allocation.bindings import BindingRequest
from workflows.api import workflow
from workflows.jobs.provider.activities import ExternalActivities
from workflows.jobs.provider.values import ProviderBinding, ProviderRelease, ProviderResult
from workflows.model.errors import ApplicationError

GIVE_BACK: Final = "give_back"
"""Signal: take everything back."""

CALL_S_MAX: Final = 110.0
"""One call with all around it; a request itself is bounded by the settings, below 100 s."""

BOOK_S_MAX: Final = 30.0
AFTERMATH_S: Final = 100.0
"""How long a request without an answer may still be worked on: no request is allowed more."""

RELEASE_ATTEMPTS_MAX: Final = 16
"""Some three quarters of an hour; then a human has to look."""

RELEASING: Final = workflow.ActivityOptions(
    start_to_close_s=CALL_S_MAX,
    retry=workflow.RetryPolicy(
        maximum_interval_s=300,
        maximum_attempts=RELEASE_ATTEMPTS_MAX,
        pause_when_exhausted=True,
    ),
)
BOOKING: Final = workflow.ActivityOptions(
    start_to_close_s=BOOK_S_MAX, retry=workflow.RetryPolicy(maximum_interval_s=30)
)
DEFINITE: Final = ("ProviderRefused", "DeadlineExceeded")
"""Failures that need no second try: the provider said no, or there is no time left to ask."""


@workflow.defn()
class ExternalBinding:
    """Binds an order, unless it is told to give back."""

    def __init__(self) -> None:
        self._back: ProviderRelease | None = None
        self._doing = "binding"

    @workflow.signal
    def give_back(self, back: ProviderRelease) -> None:
        """The first one counts; it may be sent again."""
        self._back = self._back or back

    @workflow.query
    def doing(self) -> str:
        """Binding or giving back."""
        return self._doing

    @workflow.run
    async def run(self, order: BindingRequest) -> ProviderResult:
        """What was bound. Fails if it could not be, once everything is taken back."""
        why = ""
        if self._back is None:
            bound, why = await self._bind(order)
            if not why and self._back is None:
                return ProviderResult(tuple(bound))
        self._doing = "giving back"
        await self._release(self._back or ProviderRelease(order, "unbound", why))
        if why:
            raise ApplicationError(why, type="NotBound", non_retryable=True)
        return ProviderResult((), "given back")

    async def _bind(self, order: BindingRequest) -> tuple[list[ProviderBinding], str]:
        """What was bound, and why it must not stay so; "" if it may."""
        left_s = order.deadline_ms / 1000 - workflow.now().timestamp()
        if left_s <= 0:
            return [], await self._told(order, "the time to bind was over before it began")
        options = workflow.ActivityOptions(
            start_to_close_s=CALL_S_MAX,
            schedule_to_close_s=left_s,
            retry=workflow.RetryPolicy(non_retryable=DEFINITE),
        )
        try:
            bound = await workflow.execute_activity(
                ExternalActivities.allocate, order, options=options
            )
        except workflow.ActivityError as error:
            why = await self._told(order, f"the provider did not bind: {error.__cause__ or error}")
            refused = getattr(error.__cause__, "type", "") == "ProviderRefused"
            if not refused:
                await workflow.sleep(AFTERMATH_S)
            return [], why
        recorded = await workflow.execute_activity(
            ExternalActivities.record, order, bound, options=BOOKING
        )
        if recorded:
            return bound, ""
        return bound, "its claims ended while it was bound"

    async def _told(self, order: BindingRequest, why: str) -> str:
        """Nobody shall wait until everything is taken back."""
        await workflow.execute_activity(ExternalActivities.tell, order, why, options=BOOKING)
        return why

    async def _release(self, back: ProviderRelease) -> None:
        for one in back.order.addresses:
            await workflow.execute_activity(
                ExternalActivities.release, back.order, one, options=RELEASING
            )
        await workflow.execute_activity(ExternalActivities.end, back, options=BOOKING)
