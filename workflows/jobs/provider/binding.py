"""The workflow that binds the claimed addresses of a Pod at the provider, and releases them.

All addresses are released if binding fails or takes too long, or if the claims end first. The
provider releases every address before the claims are released: no other Pod may get an address that
is still bound. A Pod has one execution at a time, which also handles a release during binding.
"""

from __future__ import annotations

from typing import Final

from core.allocation.bindings import BindingRequest
from workflows.api import workflow
from workflows.jobs.provider.activities import (
    ProviderActivities,
    ProviderBinding,
    ProviderRelease,
    ProviderResult,
)
from workflows.model.errors import ApplicationError

GIVE_BACK: Final = "give_back"
CALL_S_MAX: Final = 110.0
"""Maximum seconds of one attempt. The settings limit an HTTP request to less than 100 s."""

RECORD_S_MAX: Final = 30.0
UNKNOWN_OUTCOME_S: Final = 100.0
"""Seconds in which the provider may still process a request that it has not answered."""

RELEASE_ATTEMPTS_MAX: Final = 16
"""Attempts to release an address, over about 45 minutes; then the execution is paused."""

RELEASING: Final = workflow.ActivityOptions(
    start_to_close_s=CALL_S_MAX,
    retry=workflow.RetryPolicy(
        maximum_interval_s=300,
        maximum_attempts=RELEASE_ATTEMPTS_MAX,
        pause_when_exhausted=True,
    ),
)
RECORDING: Final = workflow.ActivityOptions(
    start_to_close_s=RECORD_S_MAX, retry=workflow.RetryPolicy(maximum_interval_s=30)
)
NOT_RETRIED: Final = ("ProviderRefused", "DeadlineExceeded")


@workflow.defn(name="ExternalBinding")
class ExternalBinding:
    """The workflow of one Pod's binding."""

    def __init__(self) -> None:
        self._release: ProviderRelease | None = None
        self._phase = "binding"

    @workflow.signal
    def give_back(self, release: ProviderRelease) -> None:
        """Release all addresses. Only the first signal counts."""
        self._release = self._release or release

    @workflow.query
    def doing(self) -> str:
        """The phase: ``binding`` or ``releasing``."""
        return self._phase

    @workflow.run
    async def run(self, request: BindingRequest) -> ProviderResult:
        """Bind the addresses. If that fails, release all of them and raise ApplicationError."""
        why = ""
        if self._release is None:
            bound, why = await self._bind(request)
            if not why and self._release is None:
                return ProviderResult(tuple(bound))
        self._phase = "releasing"
        await self._release_all(self._release or ProviderRelease(request, "unbound", why))
        if why:
            raise ApplicationError(why, type="NotBound", non_retryable=True)
        return ProviderResult((), "released")

    async def _bind(self, request: BindingRequest) -> tuple[list[ProviderBinding], str]:
        """Return the bound addresses, and the reason to release them ("" if none)."""
        remaining_s = request.deadline_ms / 1000 - workflow.now().timestamp()
        if remaining_s <= 0:
            return [], await self._report(request, "the deadline of the binding has passed")
        options = workflow.ActivityOptions(
            start_to_close_s=CALL_S_MAX,
            schedule_to_close_s=remaining_s,
            retry=workflow.RetryPolicy(non_retryable=NOT_RETRIED),
        )
        try:
            bound = await workflow.execute_activity(
                ProviderActivities.allocate, request, options=options
            )
        except workflow.ActivityError as error:
            why = await self._report(
                request, f"the provider did not bind: {error.__cause__ or error}"
            )
            refused = getattr(error.__cause__, "type", "") == "ProviderRefused"
            if not refused:
                await workflow.sleep(UNKNOWN_OUTCOME_S)
            return [], why
        recorded = await workflow.execute_activity(
            ProviderActivities.record, request, bound, options=RECORDING
        )
        if recorded:
            return bound, ""
        return bound, "the claims ended while the addresses were being bound"

    async def _report(self, request: BindingRequest, why: str) -> str:
        """Report the failure to the agent. Returns ``why``."""
        await workflow.execute_activity(
            ProviderActivities.report_failure, request, why, options=RECORDING
        )
        return why

    async def _release_all(self, release: ProviderRelease) -> None:
        for address in release.request.addresses:
            await workflow.execute_activity(
                ProviderActivities.release, release.request, address, options=RELEASING
            )
        await workflow.execute_activity(
            ProviderActivities.release_claims, release, options=RECORDING
        )
