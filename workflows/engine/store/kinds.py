"""The rows of the workflow engine in the table of key kinds (``core.kinds``).

Every method of ``WorkflowKeys`` that makes a key has its kind here (a test compares).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind, Reader, key_text
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.records import (
    ATTEMPT,
    HEAD,
    REPLY,
    Attempt,
    Message,
    Reply,
    RunHead,
    decode_message,
)
from workflows.engine.store.session import FENCE, SessionFence
from workflows.engine.worker.ownership import HOLDER, OwnerRecord
from workflows.model.codec import decode_history
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent

READERS: Final[tuple[Reader, ...]] = ("worker", "orbctl")
EXECUTION_REMEDY: Final = (
    "a worker of the version that wrote it goes on with the execution; what no version has written"
    " is deleted by hand"
)
CLOSED_REMEDY: Final = "delete the key: its execution is over"
LEASED_REMEDY: Final = "nothing: it ends with its lease"

_ROOM: Final = f"workflow/{DEFAULT_QUEUE}"


def _shaped(room: str, tail: str) -> Callable[[Keys, bytes], object]:
    """A check that what lies behind the room in a key has the shape of ``tail``."""
    shape = re.compile(f"{_ROOM}/{room}/{tail}")

    def check(keys: Keys, key: bytes) -> None:
        if shape.fullmatch(key_text(keys, key)) is None:
            raise ValueError("the key is none of the engine's")

    return check


def _history(value: bytes) -> list[HistoryEvent]:
    try:
        return decode_history(value)
    except HistoryError as error:
        raise ValueError(str(error)) from error


OPEN_HEADS: Final[KeyKind[RunHead]] = KeyKind(
    *("open execution", f"{_ROOM}/open", HEAD.decode, READERS, EXECUTION_REMEDY),
    key_of=lambda keys, head: WorkflowKeys(keys).open(head.workflow_id),
)
CLOSED_HEADS: Final[KeyKind[RunHead]] = KeyKind(
    *("closed execution", f"{_ROOM}/closed", HEAD.decode, READERS, CLOSED_REMEDY),
    key_of=lambda keys, head: WorkflowKeys(keys).closed(head.workflow_id, head.run_id),
)
HISTORIES: Final[KeyKind[list[HistoryEvent]]] = KeyKind(
    *("history", f"{_ROOM}/event", _history, READERS, EXECUTION_REMEDY),
    check_key=_shaped("event", "[0-9a-f]{2}/[0-9a-f]{32}/[0-9a-f]{8}"),
)
ATTEMPTS: Final[KeyKind[Attempt]] = KeyKind(
    *("activity attempt", f"{_ROOM}/attempt", ATTEMPT.decode, READERS, EXECUTION_REMEDY),
    check_key=_shaped("attempt", "[0-9a-f]{2}/[0-9a-f]{32}/[0-9a-f]{8}"),
)
MESSAGES: Final[KeyKind[Message]] = KeyKind(
    *("message", f"{_ROOM}/wake/inbox", decode_message, READERS, EXECUTION_REMEDY),
    check_key=_shaped("wake/inbox", "[0-9a-f]{2}/.+/[0-9a-f]{32}"),
)
HOLDERS: Final[KeyKind[OwnerRecord]] = KeyKind(
    *("shard owner", f"{_ROOM}/wake/owner", HOLDER.decode, READERS, LEASED_REMEDY),
    check_key=_shaped("wake/owner", "[0-9a-f]{2}"),
)
WORKERS: Final[KeyKind[OwnerRecord]] = KeyKind(
    *("worker", f"{_ROOM}/wake/worker", HOLDER.decode, READERS, LEASED_REMEDY),
    check_key=_shaped("wake/worker", "[^/]+"),
)
MAILS: Final[KeyKind[bytes]] = KeyKind(
    *("mail mark", f"{_ROOM}/wake/mail", bytes, READERS, "nothing: its value is never read"),
    check_key=_shaped("wake/mail", "[0-9a-f]{2}/.+"),
)
FENCES: Final[KeyKind[SessionFence]] = KeyKind(
    *("session fence", f"{_ROOM}/commit", FENCE.decode, READERS, LEASED_REMEDY),
    check_key=_shaped("commit", "[^/]+"),
)
REPLIES: Final[KeyKind[Reply]] = KeyKind(
    *("reply", f"{_ROOM}/reply", REPLY.decode, READERS, LEASED_REMEDY),
    check_key=_shaped("reply", "[^/]+"),
)
TYPES: Final[KeyKind[bytes]] = KeyKind(
    *("workflow type", f"{_ROOM}/type", bytes, READERS, "nothing: its value is never read"),
    check_key=_shaped("type", ".+"),
)
ENGINE_KINDS: Final[tuple[KeyKind[Any], ...]] = (
    *(OPEN_HEADS, CLOSED_HEADS, HISTORIES, ATTEMPTS, MESSAGES, HOLDERS, WORKERS, MAILS),
    *(FENCES, REPLIES, TYPES),
)
