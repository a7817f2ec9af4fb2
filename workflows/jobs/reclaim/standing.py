"""How reclaiming stands, for probes and scrapes: read from the head of the scan's execution.

One small read, whichever replica owns the execution; nobody is asked. It never starts anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from workflows.engine.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.records import HEAD
from workflows.jobs.reclaim.scan import WORKFLOW_ID
from workflows.model.payloads import Payload
from workflows.model.policies import Status

LAST_SCAN: Final = "ReclaimLastScan"
KEPT: Final = "ReclaimKept"
RELEASED: Final = "ReclaimReleased"
FAILED: Final = "ReclaimPaused"
FAULT: Final = "ReclaimFault"


class Standing(NamedTuple):
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


async def read_standing(store: KeyValueStore, keys: Keys) -> Standing | None:
    """None when no execution is there. Raises StoreUnavailable."""
    key = WorkflowKeys(keys, DEFAULT_QUEUE).open(WORKFLOW_ID)
    for kv in (await store.read([Get(key)])).ranges[0].kvs:
        head = HEAD.decode(kv.value)
        return _standing(head.search_attributes, paused=head.status is Status.PAUSED)
    return None


def _standing(attributes: Mapping[str, Payload], *, paused: bool) -> Standing:
    text = str(attributes.get(LAST_SCAN) or "")
    return Standing(
        paused,
        datetime.fromisoformat(text).timestamp() if text else 0.0,
        int(attributes.get(KEPT) or 0),
        int(attributes.get(RELEASED) or 0),
        int(attributes.get(FAILED) or 0),
        str(attributes.get(FAULT) or ""),
    )
