"""A schedule as data: its action, its times, and its overlap policy.

Schedules are stored, so new fields go to the end, with a default. Times are milliseconds since
1970.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no value is ever changed in place
from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from workflows.model.events import SearchAttributes
from workflows.model.payloads import Payload

CATCHUP_WINDOW_S = 86_400.0
"""Temporal's default is a year."""

CATCHUP_WINDOW_S_MAX = 7 * 86_400.0
CATCHUP_WINDOW_S_MIN = 10.0
"""As in Temporal, a shorter window counts as this one: no timer wakes exactly on time."""

INTERVAL_S_MIN = 1.0
"""The maximum is ``limits.TIMER_S_MAX``."""

SCHEDULE_BYTES_MAX = 32 * 1024
"""Schedule and progress must fit into one payload."""

NOTE_CHARACTERS_MAX = 1_000
RUNNING_ACTIONS_MAX = 500
"""Concurrent actions of one run of the scheduler under ALLOW_ALL."""

BUFFERED_STARTS_MAX = 1_000
RECENT_ACTIONS_MAX = 10


class OverlapPolicy(StrEnum):
    """What happens when an action is due while the previous action still runs.

    BUFFER_ONE: one action waits, further actions are skipped. BUFFER_ALL: all actions wait.
    CANCEL_OTHER: the running action is cancelled first.
    """

    SKIP = "Skip"
    BUFFER_ONE = "BufferOne"
    BUFFER_ALL = "BufferAll"
    CANCEL_OTHER = "CancelOther"
    ALLOW_ALL = "AllowAll"


class ScheduleInterval(NamedTuple):
    """Times that are ``every_s`` seconds apart; the first is ``offset_s`` after 1970-01-01 UTC."""

    every_s: float
    offset_s: float = 0.0


class ScheduleSpec(NamedTuple):
    """The times of a schedule, in UTC: all times of the intervals and cron expressions.

    ``cron``: five fields, or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
    ``jitter_s``: the maximum delay of a start, never beyond the next time.
    """

    intervals: tuple[ScheduleInterval, ...] = ()
    cron: tuple[str, ...] = ()
    jitter_s: float = 0.0

    @property
    def text(self) -> str:
        """For example ``every 3600 s; cron 0 3 * * *``."""
        intervals = [f"every {every_s:g} s" for every_s, _ in self.intervals]
        return "; ".join([*intervals, *(f"cron {expression}" for expression in self.cron)])


class ScheduleAction(NamedTuple):
    """The start of a workflow.

    ``workflow_id`` (default: the schedule's id): the prefix of the ids of executions, such as
    ``<workflow_id>-2026-12-01T03:00:00Z``.
    """

    workflow_type: str
    args: tuple[Payload, ...] = ()
    workflow_id: str = ""
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}


class SchedulePolicy(NamedTuple):
    """The policy of a schedule.

    ``catchup_window_s``: how late a start may be, after its jitter; later starts are missed.
    ``pause_on_failure``: an action that fails or times out pauses the schedule. Under ALLOW_ALL,
    actions of earlier runs of the scheduler cannot pause it.
    """

    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catchup_window_s: float = CATCHUP_WINDOW_S
    pause_on_failure: bool = False


class Schedule(NamedTuple):
    """A schedule."""

    action: ScheduleAction
    spec: ScheduleSpec
    policy: SchedulePolicy = SchedulePolicy()


class ScheduleActionResult(NamedTuple):
    """A started action. ``at_ms``: the scheduled time."""

    at_ms: int
    started_ms: int
    workflow_id: str
    run_id: str


class ScheduleProgress(NamedTuple):
    """The progress of a schedule, which passes from run to run of its workflow.

    Times up to ``handled_ms`` are handled. ``buffered``: times whose actions wait. ``actions``
    counts started actions. ``skipped_overlap`` counts times that the overlap policy or a pause
    skipped. ``missed_catchup_window`` counts about ``times.TIMES_MAX`` times of a longer outage.
    """

    handled_ms: int = 0
    buffered: tuple[int, ...] = ()
    paused: bool = False
    note: str = ""
    actions: int = 0
    skipped_overlap: int = 0
    missed_catchup_window: int = 0
    recent: tuple[ScheduleActionResult, ...] = ()
    fault: str = ""


class ScheduleDescription(NamedTuple):
    """A schedule with its progress. ``running``: ids of executions."""

    schedule: Schedule
    progress: ScheduleProgress
    running: tuple[str, ...] = ()
    next_ms: tuple[int, ...] = ()
