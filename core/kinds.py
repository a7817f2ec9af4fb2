"""The table of key kinds: everything of core that can lie in etcd, and how it is read.

A new method of ``Keys`` needs a row here (a test compares); the workflow engine's rows are in
``workflows.engine.kinds``. ``orbctl verify`` and ``orbctl status`` read what the table says, and
the tests of containment (tests/containment) spoil every kind of it.
"""

from __future__ import annotations

from typing import Any, Final

from core.archive.cursor import CURSORS
from core.domain.events import Recorded
from core.projections.checkpoint import CHECKPOINT_KIND
from core.service.admissions import ADMISSIONS
from core.service.bindings import BINDINGS
from core.service.pool_requests import NEEDS, REPORTS
from core.service.refusals import REFUSALS
from core.store.codec import SEGMENT_REMEDY, decode_segment
from core.store.election import LEADERS
from core.store.kinds import (
    CLAIMS,
    ENDPOINTS,
    GUARDS,
    HEADS,
    INDEXES,
    POOLS,
    QUARANTINES,
    RECORDS,
    RESERVATIONS,
    SUBNETS,
    KeyKind,
)
from core.store.reserve import RESERVES

SEGMENTS: Final[KeyKind[list[Recorded]]] = KeyKind(
    "segment",
    "log",
    lambda value: decode_segment(value, writer="the log", position=0),
    ("controller", "orbctl"),
    SEGMENT_REMEDY,
    check_key=lambda keys, key: keys.check_segment(key),
)
RESTS: Final[KeyKind[str]] = KeyKind(
    *("cool-down mark", "rest", lambda value: value.decode(), ("agent", "worker")),
    "nothing: it ends with its lease, within a minute",
    check_key=lambda keys, key: keys.check_address(key, "rest"),
)
CORE_KINDS: Final[tuple[KeyKind[Any], ...]] = (
    *(POOLS, SUBNETS, RESERVATIONS, QUARANTINES, RECORDS, CLAIMS, ENDPOINTS, GUARDS),
    INDEXES,
    *(HEADS, SEGMENTS, RESTS, LEADERS, CURSORS, CHECKPOINT_KIND, REPORTS, NEEDS),
    *(BINDINGS, ADMISSIONS, REFUSALS, RESERVES),
)
