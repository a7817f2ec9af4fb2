"""The kinds of keys that ``core`` stores in etcd, each with its decoder.

``orbctl verify`` and ``orbctl status`` decode all keys of these kinds, and tests/containment
corrupts one key of each kind. A new method of ``core.eventstore.keys.Keys`` needs a kind here; a
test compares them. The kinds of the workflow engine are in ``workflows.engine.store.kinds``.
"""

from __future__ import annotations

from typing import Any, Final

from core.allocation.bindings import BINDINGS
from core.allocation.pool_requests import POOL_REQUESTS, REPORTS
from core.archive.cursor import CURSORS
from core.configuration.pending_admissions import ADMISSIONS
from core.configuration.refusal_notes import REFUSALS
from core.domain.events import Recorded
from core.eventstore.codec import SEGMENT_REMEDY, KeyKind, decode_segment
from core.eventstore.election import LEADERS
from core.eventstore.keys import COOL_DOWN
from core.eventstore.kinds import (
    CLAIMS,
    ENDPOINTS,
    GUARDS,
    GUID_CLAIMS,
    GUIDS_OF_NODES,
    HEADS,
    INDEXES,
    POOLS,
    QUARANTINES,
    RECORDS,
    RESERVATIONS,
    SUBNETS,
)
from core.eventstore.space import RESERVES
from core.projections.publisher import CHECKPOINT_KIND

SEGMENTS: Final[KeyKind[list[Recorded]]] = KeyKind(
    "segment",
    "log",
    lambda value: decode_segment(value, writer="the log", position=0),
    ("controller", "orbctl"),
    SEGMENT_REMEDY,
    check_key=lambda keys, key: keys.check_segment(key),
)
COOL_DOWNS: Final[KeyKind[str]] = KeyKind(
    "cool-down mark",
    COOL_DOWN,
    lambda value: value.decode(),
    ("agent", "worker"),
    "none needed: the key is deleted when its lease ends, within a minute",
    check_key=lambda keys, key: keys.check_address(key, COOL_DOWN),
)
CORE_KINDS: Final[tuple[KeyKind[Any], ...]] = (
    POOLS,
    SUBNETS,
    RESERVATIONS,
    QUARANTINES,
    RECORDS,
    CLAIMS,
    ENDPOINTS,
    GUARDS,
    INDEXES,
    GUID_CLAIMS,
    GUIDS_OF_NODES,
    HEADS,
    SEGMENTS,
    COOL_DOWNS,
    LEADERS,
    CURSORS,
    CHECKPOINT_KIND,
    REPORTS,
    POOL_REQUESTS,
    BINDINGS,
    ADMISSIONS,
    REFUSALS,
    RESERVES,
)
