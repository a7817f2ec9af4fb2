"""The limits of executions, each with its unit.

A request beyond a limit raises LimitExceeded, unless the limit says otherwise. The values are
Temporal's where etcd allows them (docs/reference/workflow-defaults.md): a request to etcd has at
most 1.5 MiB and 128 operations.
"""

from __future__ import annotations

HISTORY_EVENTS_MAX = 4096
"""Events of one run. A run with more events is paused."""

HISTORY_EVENTS_SUGGEST = 3072
"""A run with this many events or more is advised to continue as new."""

HISTORY_BYTES_MAX = 4 * 1024 * 1024
"""Encoded bytes of one run's history. A run with more bytes is paused."""

HISTORY_BYTES_SUGGEST = 3 * 1024 * 1024
"""A run with more bytes is advised to continue as new."""

PAYLOAD_WARN_BYTES = 8 * 1024
"""An event with this many bytes or more is logged."""

PAYLOAD_ERROR_BYTES = 64 * 1024
"""Bytes of all arguments of one call, or of the result."""

FAILURE_MESSAGE_CHARS_MAX = 2_000
"""Characters of one failure's message. Longer messages are truncated."""

FAILURE_DEPTH_MAX = 8
"""Length of the chain of causes in a recorded failure. Deeper causes are dropped."""

ID_BYTES_MAX = 255
"""Bytes of workflow ids, of workflow types, and of signal, query, update and activity names."""

PENDING_ACTIVITIES_MAX = 1_000
"""Activities of one run that are scheduled and not closed."""

PENDING_TIMERS_MAX = 1_000
"""Timers of one run that have neither fired nor been cancelled."""

TIMER_S_MAX = 100 * 366 * 86_400.0
"""Seconds of one timer. The end of a longer timer, in milliseconds, may exceed 64 bits."""

PENDING_CHILDREN_MAX = 1_000
"""Children of one run that have not closed."""

PENDING_EXTERNAL_MAX = 1_000
"""Unanswered signals and cancel requests of one run to other executions."""

SIGNALS_MAX = 2_000
"""Signals that one run receives."""

SIGNALS_BUFFERED_MAX = 1_000
"""Signals of one run that wait for a handler."""

UPDATES_IN_FLIGHT_MAX = 10
"""Updates of one run that are accepted and not completed."""

UPDATES_MAX = 500
"""Updates that one run accepts."""

COMMANDS_MAX = 1_000
"""Commands of one workflow task."""

SEARCH_ATTRIBUTES_MAX = 32
"""Search attributes of one execution."""

DEADLOCK_S = 2.0
"""Seconds of CPU time that workflow code may run without awaiting."""

STICKY_CACHE_RUNS_MAX = 1_000
"""Runs whose interpreters one worker caches, to avoid replays."""
