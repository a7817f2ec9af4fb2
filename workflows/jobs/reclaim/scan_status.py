"""How reclaiming stands, for probes and scrapes: read from the head of the scan's execution.

One small read, whichever replica owns the execution; nobody is asked. It never starts anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from core.errors import LogCorrupt
from core.eventstore.codec import UNREADABLE, words_of
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import Get, KeyValueStore
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.jobs.reclaim.scan import WORKFLOW_ID
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus

LAST_SCAN: Final = "ReclaimLastScan"
KEPT: Final = "ReclaimKept"
RELEASED: Final = "ReclaimReleased"
FAILED: Final = "ReclaimPaused"
FAULT: Final = "ReclaimFault"


class ScanStatus(NamedTuple):
    """The last scan. ``at_s``: Unix seconds, 0: there was none yet.

    ``kept``: endpoints that stay; ``released``: addresses, since the execution began;
    ``failed_steps``: releases that wait for the next scan; ``fault``: why the last look failed.
    """

    paused: bool = False
    at_s: float = 0.0
    kept: int = 0
    released: int = 0
    failed_steps: int = 0
    fault: str = ""


def scan_key(keys: Keys) -> bytes:
    """The key of the head of the scan's execution."""
    return WorkflowKeys(keys, DEFAULT_QUEUE).open(WORKFLOW_ID)


async def read_standing(store: KeyValueStore, keys: Keys) -> ScanStatus | None:
    """None when no execution is there. Raises StoreUnavailable, LogCorrupt."""
    key = scan_key(keys)
    for kv in (await store.read([Get(key)])).ranges[0].kvs:
        head = OPEN_HEADS.decode(keys, kv.key, kv.value)
        try:
            return _standing(head.search_attributes, paused=head.status is ExecutionStatus.PAUSED)
        except UNREADABLE as error:
            name = key_text(keys, key)
            what = f"what the scan of reclaiming says cannot be read: {words_of(error)}"
            raise LogCorrupt(what, subject=name, remedy=OPEN_HEADS.remedy) from error
    return None


def _standing(attributes: Mapping[str, Payload], *, paused: bool) -> ScanStatus:
    text = str(attributes.get(LAST_SCAN) or "")
    return ScanStatus(
        paused,
        datetime.fromisoformat(text).timestamp() if text else 0.0,
        int(attributes.get(KEPT) or 0),
        int(attributes.get(RELEASED) or 0),
        int(attributes.get(FAILED) or 0),
        str(attributes.get(FAULT) or ""),
    )
