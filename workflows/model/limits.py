"""The limits of one run. A request beyond a limit raises LimitExceeded, unless noted.

The values are Temporal's where etcd allows them (docs/reference/workflow-defaults.md): a request to
etcd has at most 1.5 MiB and 128 operations.
"""

from __future__ import annotations

HISTORY_EVENTS_MAX = 4096
"""A run with more events is paused."""

HISTORY_EVENTS_SUGGEST = 3072
"""A run with this many events or more is advised to continue as new."""

HISTORY_BYTES_MAX = 4 * 1024 * 1024
"""A run with more encoded bytes is paused."""

HISTORY_BYTES_SUGGEST = 3 * 1024 * 1024
"""A run with more bytes is advised to continue as new."""

PAYLOAD_WARN_BYTES = 8 * 1024
"""An event of this size or more is logged."""

PAYLOAD_ERROR_BYTES = 64 * 1024
"""Bytes of all arguments of one call, or of the result."""

FAILURE_MESSAGE_CHARS_MAX = 2_000
"""Longer messages are truncated."""

FAILURE_DEPTH_MAX = 8
"""Length of the chain of causes. Deeper causes are dropped."""

ID_BYTES_MAX = 255
"""Bytes of a workflow id, or of the name of a workflow, signal, query, update or activity."""

PENDING_ACTIVITIES_MAX = 1_000
PENDING_TIMERS_MAX = 1_000
TIMER_S_MAX = 100 * 366 * 86_400.0
"""Keeps the end of a timer, in milliseconds, within 64 bits."""

PENDING_CHILDREN_MAX = 1_000
PENDING_EXTERNAL_MAX = 1_000
"""Unanswered signals and cancel requests to other executions."""

SIGNALS_MAX = 2_000
"""All signals that a run receives."""

SIGNALS_BUFFERED_MAX = 1_000
"""Signals that wait for a handler."""

UPDATES_IN_FLIGHT_MAX = 10
"""Updates that are accepted but not completed."""

UPDATES_MAX = 500
COMMANDS_MAX = 1_000
"""Commands of one workflow task."""

SEARCH_ATTRIBUTES_MAX = 32
DEADLOCK_S = 2.0
"""CPU seconds that workflow code may use without awaiting."""

STICKY_CACHE_RUNS_MAX = 1_000
"""Interpreters that one worker caches, to avoid replays."""
