"""The kinds of keys that ``core`` stores in etcd, each with its decoder.

Every key of ``core.eventstore.keys.Keys`` needs a kind. ``orbctl verify`` decodes all these keys;
tests/containment corrupts one of each kind.
"""

from __future__ import annotations

from typing import Any, Final

from core.allocation.bindings import BINDING_KEYS
from core.allocation.pool_requests import POOL_REQUEST_KEYS, REPORT_KEYS
from core.archive.cursor import CURSOR_KEYS
from core.configuration.admission_records import ADMISSION_KEYS
from core.configuration.refusal_notes import REFUSED_POOL_KEYS
from core.domain.events import Recorded
from core.eventstore.codec import SEGMENT_REMEDY, KeyKind, decode_segment
from core.eventstore.election import LEADER_KEYS
from core.eventstore.full_etcd import RESERVE_KEYS
from core.eventstore.keys import COOL_DOWN_PREFIX
from core.eventstore.kinds import (
    CLAIM_KEYS,
    ENDPOINT_KEYS,
    GUARD_KEYS,
    GUID_CLAIM_KEYS,
    HEAD_KEYS,
    INDEX_KEYS,
    NODE_GUIDS_KEYS,
    POOL_KEYS,
    QUARANTINE_KEYS,
    RECORD_KEYS,
    RESERVATION_KEYS,
    SUBNET_KEYS,
)
from core.projections.publisher import CHECKPOINT_KEYS

SEGMENT_KEYS: Final[KeyKind[list[Recorded]]] = KeyKind(
    name="segment",
    prefix="log",
    # Writer and position do not matter here: ``KeyKind`` puts the key into errors.
    decode=lambda value: decode_segment(value, writer="", position=0),
    readers=("controller", "orbctl"),
    remedy=SEGMENT_REMEDY,
    check_key=lambda keys, key: keys.check_segment(key),
)
COOL_DOWN_KEYS: Final[KeyKind[str]] = KeyKind(
    name="cool-down mark",
    prefix=COOL_DOWN_PREFIX,
    decode=lambda value: value.decode(),
    readers=("agent", "worker"),
    remedy="etcd deletes the key by itself when its lease ends",
    check_key=lambda keys, key: keys.check_address(key, COOL_DOWN_PREFIX),
)
CORE_KINDS: Final[tuple[KeyKind[Any], ...]] = (
    POOL_KEYS,
    SUBNET_KEYS,
    RESERVATION_KEYS,
    QUARANTINE_KEYS,
    RECORD_KEYS,
    CLAIM_KEYS,
    ENDPOINT_KEYS,
    GUARD_KEYS,
    INDEX_KEYS,
    GUID_CLAIM_KEYS,
    NODE_GUIDS_KEYS,
    HEAD_KEYS,
    SEGMENT_KEYS,
    COOL_DOWN_KEYS,
    LEADER_KEYS,
    CURSOR_KEYS,
    CHECKPOINT_KEYS,
    REPORT_KEYS,
    POOL_REQUEST_KEYS,
    BINDING_KEYS,
    ADMISSION_KEYS,
    REFUSED_POOL_KEYS,
    RESERVE_KEYS,
)
