"""Every bound of the engine, by name and with its unit.

Reaching one is an error that names it (``workflows.model.errors.LimitExceeded``); nothing is cut
off in silence. Temporal's values where etcd allows them (docs/reference/workflow-defaults.md),
smaller where it does not: a request of etcd ends at 1.5 MiB and 128 operations.
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
"""An event of this size is logged: what is large belongs in a store, by reference."""

PAYLOAD_ERROR_BYTES = 64 * 1024
"""Arguments or a result above this are refused."""

FAILURE_MESSAGE_CHARS_MAX = 2_000
"""Characters of one failure's message; a longer one is cut."""

FAILURE_DEPTH_MAX = 8
"""Causes kept below a failure."""

ID_BYTES_MAX = 255
"""Bytes of workflow ids, of workflow types, and of signal, query, update and activity names."""

PENDING_ACTIVITIES_MAX = 1_000
"""Scheduled and not finished, in one run."""

PENDING_TIMERS_MAX = 1_000
"""Started and neither fired nor cancelled, in one run."""

TIMER_S_MAX = 100 * 366 * 86_400.0
"""Seconds of one timer; a longer one is a mistake and cannot be stored in a run's head."""

PENDING_CHILDREN_MAX = 1_000
"""Started and not closed, in one run."""

PENDING_EXTERNAL_MAX = 1_000
"""Signals and cancel requests to other executions that are not answered yet."""

SIGNALS_MAX = 2_000
"""Received by one run: below the bound on events, so that a run is never only signals."""

SIGNALS_BUFFERED_MAX = 1_000
"""Received and waiting for a handler, in one run."""

UPDATES_IN_FLIGHT_MAX = 10
"""Accepted and not completed, in one run."""

UPDATES_MAX = 500
"""Accepted by one run."""

COMMANDS_MAX = 1_000
"""Commands of one workflow task: they are written in one transaction after another."""

SEARCH_ATTRIBUTES_MAX = 32
"""Search attributes of one execution."""

DEADLOCK_S = 2.0
"""How long workflow code may run, in seconds of its thread, without awaiting anything."""

STICKY_CACHE_RUNS_MAX = 1_000
"""Cached runs of one worker."""
