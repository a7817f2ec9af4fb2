"""All kinds of keys in etcd."""

from __future__ import annotations

from typing import Any, Final

from core.eventstore.codec import KeyKind
from core.kinds import CORE_KINDS, SEGMENT_KEYS
from workflows.engine.store.kinds import ENGINE_KINDS
from workflows.jobs.reclaim.scan_states import SCAN_STATES

ALL_KINDS: Final[tuple[KeyKind[Any], ...]] = (*CORE_KINDS, *ENGINE_KINDS, SCAN_STATES)

STATUS_KINDS: Final = tuple(kind for kind in ALL_KINDS if kind is not SEGMENT_KEYS)
"""The kinds that ``orbctl status`` decodes.

Log segments are left out, because they take too long to decode; ``orbctl verify`` reads them.
"""
