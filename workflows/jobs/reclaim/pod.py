"""Reclaim one Pod: wait until its time has come, look, release what is free on evidence.

One execution a Pod, id ``reclaim/<namespace>/<Pod>/<UID>``, begun by news of the Pod
(``change_listener``) or by a scan that found its grace running. It never frees anything by itself:
the activity looks again and decides. What cannot be decided or released after a bounded number of
tries is left to the scan.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.reclaim.deadlines import ReclaimDeadline
from workflows.api import workflow
from workflows.jobs.reclaim.pod_activities import PodActivities, PodResolution

WORKFLOW_TYPE: Final = "reclaim-pod"
NEWS: Final = "news"

RESOLVE_S: Final = 30.0
"""One attempt, at most."""

LOOKS_MAX: Final = 100
"""Of one execution: as often as a grace may be prolonged before the scan takes over."""


class ReclaimResult(NamedTuple):
    """How it ended: ``released`` addresses, and what was found, in words."""

    released: tuple[str, ...]
    why: str


def workflow_id(one: ReclaimDeadline) -> str:
    """The execution of a Pod."""
    return f"reclaim/{one.endpoint[0]}/{one.pod}/{one.uid}"


@workflow.defn(name=WORKFLOW_TYPE)
class ReclaimPod:
    """The execution. What it knows is the trace; the newest news counts."""

    def __init__(self) -> None:
        self._news: ReclaimDeadline | None = None

    @workflow.run
    async def run(self, one: ReclaimDeadline, retry_s: float) -> ReclaimResult:
        """Go on until there is nothing left to wait for. ``retry_s``: between two attempts."""
        for _ in range(LOOKS_MAX):
            one = await self._due(one)
            found = await workflow.execute_activity(
                PodActivities.resolve, one, options=_options(retry_s)
            )
            if not found.until_s and self._news is None:
                return ReclaimResult(found.released, found.why)
            one = _waiting(one, found)
        return ReclaimResult((), f"left to the scan after {LOOKS_MAX} looks")

    @workflow.signal
    def news(self, one: ReclaimDeadline) -> None:
        """Something has happened to the Pod since."""
        self._news = one

    async def _due(self, one: ReclaimDeadline) -> ReclaimDeadline:
        """Wait for the time of the trace; news may bring another time."""
        while True:
            one, self._news = _newer(one, self._news), None
            rest_s = one.stop_s - workflow.now().timestamp()
            if rest_s <= 0:
                return one
            try:
                await workflow.wait_condition(lambda: self._news is not None, rest_s)
            except workflow.TimeoutError:
                return one


def _options(retry_s: float) -> workflow.ActivityOptions:
    # The activity itself gives up after its last attempt, so that no execution waits for a person.
    retry = workflow.RetryPolicy(
        initial_interval_s=retry_s, backoff_coefficient=1.0, maximum_interval_s=retry_s
    )
    return workflow.ActivityOptions(start_to_close_s=RESOLVE_S, retry=retry)


def _newer(one: ReclaimDeadline, news: ReclaimDeadline | None) -> ReclaimDeadline:
    """A deletion that was reported is never taken back; the first observation stays the first."""
    if news is None or one.reason == "deleted":
        return one
    return news if news.reason == "deleted" else news._replace(seen=one.seen)


def _waiting(one: ReclaimDeadline, found: PodResolution) -> ReclaimDeadline:
    """The trace for the next look: its new time, and who has seen it first."""
    return one._replace(deadline_s=found.until_s or one.deadline_s, seen=found.seen or one.seen)
