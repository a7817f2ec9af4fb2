"""Every limit of the engine, with its unit.

Reaching a limit raises LimitExceeded, which names it; nothing is truncated without an error, except
messages and causes of failures. The values are Temporal's where etcd allows them
(docs/reference/workflow-defaults.md): a request to etcd has at most 1.5 MiB and 128 operations.
"""

from __future__ import annotations

HISTORY_EVENTS_MAX = 4096
"""Events of one run. A run that reaches it is paused: it should have continued as new."""

HISTORY_EVENTS_SUGGEST = 3072
"""Events from which a run is advised to continue as new."""

HISTORY_BYTES_MAX = 4 * 1024 * 1024
"""Encoded bytes of one run's history."""

HISTORY_BYTES_SUGGEST = 3 * 1024 * 1024
"""Bytes from which a run is advised to continue as new."""

PAYLOAD_WARN_BYTES = 8 * 1024
"""An event of this size is logged: large values should be stored elsewhere and be referenced."""

PAYLOAD_ERROR_BYTES = 64 * 1024
"""Larger arguments and results are rejected."""

FAILURE_MESSAGE_CHARS_MAX = 2_000
"""Characters of one failure's message; a longer one is truncated."""

FAILURE_DEPTH_MAX = 8
"""Causes kept below a failure."""

ID_BYTES_MAX = 255
"""Bytes of workflow ids, of workflow types, and of signal, query, update and activity names."""

PENDING_ACTIVITIES_MAX = 1_000
"""Activities of one run that are scheduled and not closed."""

PENDING_TIMERS_MAX = 1_000
"""Timers of one run that have neither fired nor been cancelled."""

TIMER_S_MAX = 100 * 366 * 86_400.0
"""Seconds of one timer; a longer one is a mistake and cannot be stored in a run's head."""

PENDING_CHILDREN_MAX = 1_000
"""Children of one run that have not closed."""

PENDING_EXTERNAL_MAX = 1_000
"""Signals and cancel requests of one run to other executions without an answer."""

SIGNALS_MAX = 2_000
"""Signals of one run: fewer than its events, so that a history is never full of signals."""

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
"""Cached runs of one worker."""
