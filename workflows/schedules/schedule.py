"""A schedule as data: its action, its times, and its overlap policy.

A schedule is stored as the arguments of its workflow, so fields are added at the end, with a
default. Times are integer milliseconds since 1970, durations float seconds.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no value is ever changed in place
from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from workflows.model.events import SearchAttributes
from workflows.model.payloads import Payload

CATCHUP_WINDOW_S = 86_400.0
"""The default of ``SchedulePolicy.catchup_window_s``, in seconds.

Temporal's default is a year. A day is enough for jobs whose next run does the work of a missed one.
"""

CATCHUP_WINDOW_S_MAX = 7 * 86_400.0
"""The largest ``SchedulePolicy.catchup_window_s``, in seconds."""

INTERVAL_S_MIN = 1.0
"""The shortest interval, in seconds; the longest is ``limits.TIMER_S_MAX``."""

SCHEDULE_BYTES_MAX = 32 * 1024
"""Bytes of a schedule with its arguments: schedule and progress must fit into one payload."""

NOTE_CHARACTERS_MAX = 1_000
"""Characters of the note of a pause."""

RUNNING_ACTIONS_MAX = 500
"""Actions that one run of the scheduler lets run concurrently, under ALLOW_ALL.

After continue-as-new the count starts at 0: actions of the previous run are not counted.
"""

BUFFERED_STARTS_MAX = 1_000
"""Starts of one schedule that wait for the end of a running action."""

RECENT_ACTIONS_MAX = 10
"""Past actions that a description names; it counts all of them."""


class OverlapPolicy(StrEnum):
    """What happens when an action is due while the previous action still runs.

    SKIP: the new action is skipped. BUFFER_ONE: one action waits until the previous one ends, and
    further ones are skipped. BUFFER_ALL: all wait. CANCEL_OTHER: the running action is cancelled,
    and the new one starts when it has ended. ALLOW_ALL: both run.
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
    """The times of a schedule: those of all intervals and cron expressions, in UTC.

    ``cron``: five fields as in cron and Kubernetes, or ``@hourly``, ``@daily``, ``@weekly``,
    ``@monthly``, ``@yearly``. ``jitter_s``: each start is delayed by at most this many seconds, and
    not beyond the next time; the delay is a function of the schedule's id and the time.
    """

    intervals: tuple[ScheduleInterval, ...] = ()
    cron: tuple[str, ...] = ()
    jitter_s: float = 0.0

    @property
    def text(self) -> str:
        """The times as text, such as ``every 3600 s; cron 0 3 * * *``."""
        intervals = [f"every {every_s:g} s" for every_s, _ in self.intervals]
        return "; ".join([*intervals, *(f"cron {expression}" for expression in self.cron)])


class ScheduleAction(NamedTuple):
    """The start of a workflow.

    ``workflow_id``: the beginning of the execution's id, by default the schedule's id. The
    execution of 2026-12-01 03:00 has the id ``<workflow_id>-2026-12-01T03:00:00Z``.
    """

    workflow_type: str
    args: tuple[Payload, ...] = ()
    workflow_id: str = ""
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}


class SchedulePolicy(NamedTuple):
    """The policy of a schedule.

    ``catchup_window_s``: seconds that a start may be late, after an outage; a later one is missed.
    ``pause_on_failure``: an action that fails or times out pauses the schedule. Under ALLOW_ALL an
    action does so only until the scheduler continues as new, because it awaits no older action.
    """

    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catchup_window_s: float = CATCHUP_WINDOW_S
    pause_on_failure: bool = False


class Schedule(NamedTuple):
    """A schedule: its action, its times, its policy."""

    action: ScheduleAction
    spec: ScheduleSpec
    policy: SchedulePolicy = SchedulePolicy()


class ScheduleActionResult(NamedTuple):
    """An action that was started. ``at_ms``: its scheduled time, ``started_ms``: its start."""

    at_ms: int
    started_ms: int
    workflow_id: str
    run_id: str


class ScheduleProgress(NamedTuple):
    """The progress of a schedule, which passes from run to run of its workflow.

    Times up to ``handled_ms`` are handled. ``buffered``: times whose actions wait for the end of a
    running one. The counters: ``actions`` that were started; ``skipped_overlap``, times that the
    overlap policy skipped, or whose actions waited when the schedule was paused;
    ``missed_catchup_window``, times that had passed too long ago (at most
    ``workflows.schedules.times.TIMES_MAX`` are counted for one outage). ``fault``: why the last
    action failed.
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
    """A schedule with its progress, its running actions, and its next times."""

    schedule: Schedule
    progress: ScheduleProgress
    running: tuple[str, ...] = ()
    next_ms: tuple[int, ...] = ()
