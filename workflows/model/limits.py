"""The limits of executions, each with its unit.

A request beyond a limit raises LimitExceeded, which names the limit; a run whose history is too
long is paused. Nothing is truncated, except messages and causes of failures. The values are
Temporal's where etcd allows them (docs/reference/workflow-defaults.md): a request to etcd has at
most 1.5 MiB and 128 operations.
"""

from __future__ import annotations

HISTORY_EVENTS_MAX = 4096
"""Events of one run. A run that exceeds it is paused: it should have continued as new."""

HISTORY_EVENTS_SUGGEST = 3072
"""A run with this many events is advised to continue as new."""

HISTORY_BYTES_MAX = 4 * 1024 * 1024
"""Encoded bytes of one run's history. A run that exceeds it is paused."""

HISTORY_BYTES_SUGGEST = 3 * 1024 * 1024
"""A run with more bytes is advised to continue as new."""

PAYLOAD_WARN_BYTES = 8 * 1024
"""An event with this many bytes is logged: a large value should be passed by reference."""

PAYLOAD_ERROR_BYTES = 64 * 1024
"""Bytes of the arguments, or of the result, of one call. Larger ones are rejected."""

FAILURE_MESSAGE_CHARS_MAX = 2_000
"""Characters of one failure's message; a longer one is truncated."""

FAILURE_DEPTH_MAX = 8
"""Causes that a recorded failure keeps, one below the other; deeper ones are dropped."""

ID_BYTES_MAX = 255
"""Bytes of workflow ids, of workflow types, and of signal, query, update and activity names."""

PENDING_ACTIVITIES_MAX = 1_000
"""Activities of one run that are scheduled and not closed."""

PENDING_TIMERS_MAX = 1_000
"""Timers of one run that have neither fired nor been cancelled."""

TIMER_S_MAX = 100 * 366 * 86_400.0
"""Seconds of one timer. A longer one is a mistake, and its end may exceed 64 bits when stored."""

PENDING_CHILDREN_MAX = 1_000
"""Children of one run that have not closed."""

PENDING_EXTERNAL_MAX = 1_000
"""Signals and cancel requests that one run sent to other executions, and that are unanswered."""

SIGNALS_MAX = 2_000
"""Signals that one run receives: few enough to leave room for other events in its history."""

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
"""Runs whose interpreters one worker caches, so that it need not replay their histories."""
