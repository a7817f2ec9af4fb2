"""Every kind of key that can lie in etcd: core's and the workflow engine's."""

from __future__ import annotations

from typing import Any, Final

from core.kinds import CORE_KINDS, SEGMENTS
from core.store.kinds import KeyKind
from workflows.engine.kinds import ENGINE_KINDS

ALL_KINDS: Final[tuple[KeyKind[Any], ...]] = (*CORE_KINDS, *ENGINE_KINDS)

STATUS_KINDS: Final = tuple(kind for kind in ALL_KINDS if kind is not SEGMENTS)
"""All but the log, which ``verify`` reads: a status may take a moment and no more."""
