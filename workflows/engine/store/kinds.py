"""The key kinds of the workflow engine, for the table of all kinds (``core.kinds``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from core.eventstore.codec import KeyKind, Reader
from core.eventstore.keys import Keys, key_text
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.records import (
    ATTEMPT_CODEC,
    HEAD_CODEC,
    REPLY_CODEC,
    Attempt,
    Message,
    Reply,
    RunHead,
    decode_history,
    decode_message,
)
from workflows.engine.store.session import FENCE_CODEC, SessionFence
from workflows.engine.worker.ownership import OWNER_RECORD, OwnerRecord
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent

READERS: Final[tuple[Reader, ...]] = ("worker", "orbctl")
EXECUTION_REMEDY: Final = (
    "run a worker of the version that wrote the key: it continues the execution; if Orbweaver"
    " did not write it, delete the key"
)
CLOSED_REMEDY: Final = "delete the key: its execution is closed"
LEASED_REMEDY: Final = "etcd deletes the key by itself when its lease ends"

_PREFIX: Final = f"workflow/{DEFAULT_QUEUE}"


def _key_check(part: str, pattern: str) -> Callable[[Keys, bytes], object]:
    expected = re.compile(f"{_PREFIX}/{part}/{pattern}")

    def check(keys: Keys, key: bytes) -> None:
        if expected.fullmatch(key_text(keys, key)) is None:
            raise ValueError(f"not a key of the workflow engine: expected {part}/{pattern}")

    return check


def _history(value: bytes) -> list[HistoryEvent]:
    try:
        return decode_history(value)
    except HistoryError as error:
        raise ValueError(str(error)) from error


OPEN_HEADS: Final[KeyKind[RunHead]] = KeyKind(
    "open execution",
    prefix=f"{_PREFIX}/open",
    decode=HEAD_CODEC.decode,
    readers=READERS,
    remedy=EXECUTION_REMEDY,
    key_of=lambda keys, head: WorkflowKeys(keys).open(head.workflow_id),
)
CLOSED_HEADS: Final[KeyKind[RunHead]] = KeyKind(
    "closed execution",
    prefix=f"{_PREFIX}/closed",
    decode=HEAD_CODEC.decode,
    readers=READERS,
    remedy=CLOSED_REMEDY,
    key_of=lambda keys, head: WorkflowKeys(keys).closed(head.workflow_id, head.run_id),
)
HISTORIES: Final[KeyKind[list[HistoryEvent]]] = KeyKind(
    "history",
    prefix=f"{_PREFIX}/event",
    decode=_history,
    readers=READERS,
    remedy=EXECUTION_REMEDY,
    check_key=_key_check("event", "[0-9a-f]{2}/[0-9a-f]{32}/[0-9a-f]{8}"),
)
ATTEMPTS: Final[KeyKind[Attempt]] = KeyKind(
    "activity attempt",
    prefix=f"{_PREFIX}/attempt",
    decode=ATTEMPT_CODEC.decode,
    readers=READERS,
    remedy=EXECUTION_REMEDY,
    check_key=_key_check("attempt", "[0-9a-f]{2}/[0-9a-f]{32}/[0-9a-f]{8}"),
)
MESSAGES: Final[KeyKind[Message]] = KeyKind(
    "message",
    prefix=f"{_PREFIX}/wake/inbox",
    decode=decode_message,
    readers=READERS,
    remedy=EXECUTION_REMEDY,
    check_key=_key_check("wake/inbox", "[0-9a-f]{2}/.+/[0-9a-f]{32}"),
)
OWNERS: Final[KeyKind[OwnerRecord]] = KeyKind(
    "shard owner",
    prefix=f"{_PREFIX}/wake/owner",
    decode=OWNER_RECORD.decode,
    readers=READERS,
    remedy=LEASED_REMEDY,
    check_key=_key_check("wake/owner", "[0-9a-f]{2}"),
)
WORKERS: Final[KeyKind[OwnerRecord]] = KeyKind(
    "worker",
    prefix=f"{_PREFIX}/wake/worker",
    decode=OWNER_RECORD.decode,
    readers=READERS,
    remedy=LEASED_REMEDY,
    check_key=_key_check("wake/worker", "[^/]+"),
)
SIGNAL_FENCES: Final[KeyKind[bytes]] = KeyKind(
    "signal fence",
    prefix=f"{_PREFIX}/wake/mail",
    decode=bytes,
    readers=READERS,
    remedy="leave the key: its value is never read",
    check_key=_key_check("wake/mail", "[0-9a-f]{2}/.+"),
)
FENCES: Final[KeyKind[SessionFence]] = KeyKind(
    "session fence",
    prefix=f"{_PREFIX}/commit",
    decode=FENCE_CODEC.decode,
    readers=READERS,
    remedy=LEASED_REMEDY,
    check_key=_key_check("commit", "[^/]+"),
)
REPLIES: Final[KeyKind[Reply]] = KeyKind(
    "reply",
    prefix=f"{_PREFIX}/reply",
    decode=REPLY_CODEC.decode,
    readers=READERS,
    remedy=LEASED_REMEDY,
    check_key=_key_check("reply", "[^/]+"),
)
TYPES: Final[KeyKind[bytes]] = KeyKind(
    "workflow type",
    prefix=f"{_PREFIX}/type",
    decode=bytes,
    readers=READERS,
    remedy="leave the key: its value is never read",
    check_key=_key_check("type", ".+"),
)
ENGINE_KINDS: Final[tuple[KeyKind[Any], ...]] = (
    OPEN_HEADS,
    CLOSED_HEADS,
    HISTORIES,
    ATTEMPTS,
    MESSAGES,
    OWNERS,
    WORKERS,
    SIGNAL_FENCES,
    FENCES,
    REPLIES,
    TYPES,
)
