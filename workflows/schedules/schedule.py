"""A schedule as data: its action, its times, and its overlap policy.

Schedules are stored, so new fields go to the end, with a default. Times are integer milliseconds
since 1970, durations are float seconds.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no value is ever changed in place
from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from workflows.model.events import SearchAttributes
from workflows.model.payloads import Payload

CATCHUP_WINDOW_S = 86_400.0
"""The default of ``SchedulePolicy.catchup_window_s``, in seconds. Temporal's default is a year."""

CATCHUP_WINDOW_S_MAX = 7 * 86_400.0
"""The maximum of ``SchedulePolicy.catchup_window_s``, in seconds."""

INTERVAL_S_MIN = 1.0
"""Minimum seconds of an interval. The maximum is ``limits.TIMER_S_MAX``."""

SCHEDULE_BYTES_MAX = 32 * 1024
"""Maximum bytes of a schedule. Schedule and progress must fit into one payload."""

NOTE_CHARACTERS_MAX = 1_000
"""Maximum characters of the note of a pause."""

RUNNING_ACTIONS_MAX = 500
"""Maximum number of concurrent actions under ALLOW_ALL, for each run of the scheduler."""

BUFFERED_STARTS_MAX = 1_000
"""Maximum number of starts that wait for the end of a running action."""

RECENT_ACTIONS_MAX = 10
"""Maximum number of past actions in a description."""


class OverlapPolicy(StrEnum):
    """What happens when an action is due while the previous action still runs.

    SKIP: the new action is skipped. BUFFER_ONE: one action waits until the running action ends, and
    further actions are skipped. BUFFER_ALL: all actions wait. CANCEL_OTHER: the running action is
    cancelled, then the new action starts. ALLOW_ALL: both actions run.
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

    ``cron``: five fields as in cron and Kubernetes, or ``@hourly``, ``@daily``, ``@weekly``,
    ``@monthly``, ``@yearly``. ``jitter_s``: each start is delayed by at most this many seconds, but
    not beyond the next time.
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

    ``workflow_id``: the prefix of the execution's id, by default the schedule's id. The
    execution for 2026-12-01 03:00 has the id ``<workflow_id>-2026-12-01T03:00:00Z``.
    """

    workflow_type: str
    args: tuple[Payload, ...] = ()
    workflow_id: str = ""
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}


class SchedulePolicy(NamedTuple):
    """The policy of a schedule.

    ``catchup_window_s``: seconds that a start may be late. Later starts are missed.
    ``pause_on_failure``: an action that fails or times out pauses the schedule. Under ALLOW_ALL
    only actions that the current run of the scheduler has started can pause the schedule.
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
    """An action that was started. ``at_ms``: the scheduled time, ``started_ms``: the start."""

    at_ms: int
    started_ms: int
    workflow_id: str
    run_id: str


class ScheduleProgress(NamedTuple):
    """The progress of a schedule, which passes from run to run of its workflow.

    Times up to ``handled_ms`` are handled. ``buffered``: times whose actions wait for the end of a
    running action. ``actions`` counts started actions. ``skipped_overlap`` counts times that the
    overlap policy skipped, and times whose actions waited when the schedule was paused.
    ``missed_catchup_window`` counts missed times, at most ``workflows.schedules.times.TIMES_MAX``
    for each outage. ``fault``: why the last action failed.
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
