"""Every key of the engine is built and parsed here.

    workflow/<queue>/wake/inbox/<shard>/<id>/<message>   a message to an execution
    workflow/<queue>/wake/mail/<shard>/<id>              signal fence: rewritten with every signal
    workflow/<queue>/wake/owner/<shard>                  a shard's owner, under the owner's lease
    workflow/<queue>/wake/worker/<name>                  a running worker, under its lease
    workflow/<queue>/open/<shard>/<id>                   head (state) of the open run of an id
    workflow/<queue>/closed/<shard>/<id>/<run>           head of a closed run, until retention
    workflow/<queue>/event/<shard>/<run>/<first event>   segment: events of one transaction
    workflow/<queue>/attempt/<shard>/<run>/<activity>    an activity after a failure or heartbeat
    workflow/<queue>/reply/<message>                     reply to a query or update, under a lease
    workflow/<queue>/commit/<session>                    the fence of a session
    workflow/<queue>/type/<name>                         a workflow type that a worker registered

A shard has 2 hexadecimal digits, an event or activity has 8, a run or message has 32. Ids of
runs and messages sort by time. A workflow id may contain "/", so keys are parsed from the right. A
worker watches only ``wake/``, so that it does not receive its own writes of heads and histories.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from hashlib import blake2b

from core.errors import BadInput
from core.eventstore.keys import Keys, check_name, range_end
from workflows.api.definitions import ID_RULE, is_id

SHARD_COUNT = 16
"""Stored keys contain the shard, so this number never changes."""

ID_CACHE_MAX = 4_096

DEFAULT_QUEUE = "default"
RUN_ID_CHARS = 32
"""Characters of a run or message id."""

_TAIL = 1 + RUN_ID_CHARS

Range = tuple[bytes, bytes]


def check_id(text: str, what: str = "workflow id") -> str:
    """Return a valid id unchanged; ``what``: its name in errors. Raises BadInput."""
    if not is_id(text):
        raise BadInput(
            f"{text[:64]!r} is not a valid {what}", subject=what, remedy=f"use {ID_RULE}"
        )
    return text


@lru_cache(ID_CACHE_MAX)
def shard_of(workflow_id: str) -> int:
    """The shard of an execution; the same in every process and version."""
    return blake2b(workflow_id.encode(), digest_size=1).digest()[0] % SHARD_COUNT


@lru_cache(ID_CACHE_MAX)
def _shard_and_id(workflow_id: str) -> bytes:
    return f"{shard_of(workflow_id):02x}/{workflow_id}".encode()


@lru_cache(ID_CACHE_MAX)
def _shard_and_run(workflow_id: str, run_id: str) -> bytes:
    return f"{shard_of(workflow_id):02x}/{run_id}/".encode()


def new_id(now_ms: int, order: int = 0) -> str:
    """A run or message id: 12 digits of milliseconds, 4 of ``order``, 16 random ones."""
    return f"{now_ms & 0xFFFFFFFFFFFF:012x}{order & 0xFFFF:04x}{secrets.token_hex(8)}"


def next_run_id(run_id: str, now_ms: int) -> str:
    """The id of the next run. It sorts after ``run_id``, also within one millisecond."""
    stamp = max(now_ms << 16, int(run_id[:16], 16) + 1)
    return f"{stamp:016x}{secrets.token_hex(8)}"


class WorkflowKeys:
    """The keys of one task queue of one cluster."""

    __slots__ = ("queue", "root")

    def __init__(self, keys: Keys, queue: str = DEFAULT_QUEUE) -> None:
        self.queue = check_name(queue, "task queue")
        self.root = keys.prefix("workflow", queue)

    def inbox(self, workflow_id: str, message: str) -> bytes:
        """One message to an execution."""
        return b"%swake/inbox/%s/%s" % (self.root, _shard_and_id(workflow_id), message.encode())

    def inbox_of(self, workflow_id: str) -> Range:
        """[start, end) of the messages to an id; may include messages to ``<id>/<more>``."""
        prefix = self.inbox(workflow_id, "")
        return prefix, range_end(prefix)

    def signal_fence(self, workflow_id: str) -> bytes:
        """The signal fence: a client's signal rewrites it, and closing a run compares it."""
        return b"%swake/mail/%s" % (self.root, _shard_and_id(workflow_id))

    def owner(self, shard: int) -> bytes:
        """The owner of a shard."""
        return self.root + b"wake/owner/%02x" % shard

    def worker(self, name: str) -> bytes:
        """A running worker."""
        return self.root + f"wake/worker/{name}".encode()

    def open(self, workflow_id: str) -> bytes:
        """The head of the open run."""
        return b"%sopen/%s" % (self.root, _shard_and_id(workflow_id))

    def closed(self, workflow_id: str, run_id: str) -> bytes:
        """The head of a closed run."""
        return b"%sclosed/%s/%s" % (self.root, _shard_and_id(workflow_id), run_id.encode())

    def event(self, workflow_id: str, run_id: str, first: int) -> bytes:
        """A segment of a history."""
        return b"%sevent/%s%08x" % (self.root, _shard_and_run(workflow_id, run_id), first)

    def attempt(self, workflow_id: str, run_id: str, activity_id: int) -> bytes:
        """The stored attempt of an activity."""
        return b"%sattempt/%s%08x" % (self.root, _shard_and_run(workflow_id, run_id), activity_id)

    def reply(self, message: str) -> bytes:
        """The reply to a query or update."""
        return self.root + f"reply/{message}".encode()

    def commit(self, session: str) -> bytes:
        """The fence of a session, which every transaction of the session rewrites."""
        return self.root + f"commit/{session}".encode()

    def type(self, name: str) -> bytes:
        """A registered workflow type."""
        return self.root + f"type/{name}".encode()

    def range_of(self, kind: str, shard: int | None = None) -> Range:
        """[start, end) of one kind of keys, in one shard or in all."""
        tail = "" if shard is None else f"{shard:02x}/"
        prefix = self.root + f"{kind}/{tail}".encode()
        return prefix, range_end(prefix)

    def history(self, workflow_id: str, run_id: str) -> Range:
        """[start, end) of the segments of a run."""
        prefix = self.event(workflow_id, run_id, 0)[:-8]
        return prefix, range_end(prefix)

    def attempts(self, workflow_id: str, run_id: str) -> Range:
        """[start, end) of the attempts of a run."""
        prefix = self.attempt(workflow_id, run_id, 0)[:-8]
        return prefix, range_end(prefix)

    def closed_runs(self, workflow_id: str) -> Range:
        """[start, end) of the closed runs of an id; may include runs of ``<id>/<more>``."""
        prefix = self.closed(workflow_id, "")
        return prefix, range_end(prefix)

    def inbox_parts(self, key: bytes) -> tuple[int, str, str]:
        """(shard, workflow id, message) of an inbox key."""
        start = len(self.root) + len("wake/inbox/")
        shard = int(key[start : start + 2], 16)
        return shard, key[start + 3 : -_TAIL].decode(), key[-_TAIL + 1 :].decode()

    def signal_fence_parts(self, key: bytes) -> tuple[int, str]:
        """(shard, workflow id) of a signal fence."""
        start = len(self.root) + len("wake/mail/")
        return int(key[start : start + 2], 16), key[start + 3 :].decode()

    def closed_parts(self, key: bytes) -> tuple[str, str]:
        """(workflow id, run) of a closed head's key."""
        start = len(self.root) + len("closed/00/")
        return key[start:-_TAIL].decode(), key[-_TAIL + 1 :].decode()

    def attempt_parts(self, key: bytes) -> tuple[str, int]:
        """(run, activity id) of an attempt's key."""
        run_id, activity_id = key[len(self.root) + len("attempt/00/") :].decode().split("/")
        return run_id, int(activity_id, 16)

    def wake_parts(self, key: bytes) -> tuple[str, str]:
        """(kind, name) of a key under ``wake/``; the name may have more parts."""
        kind, _, name = key[len(self.root) + len("wake/") :].decode().partition("/")
        return kind, name

    def wake_order(self, key: bytes) -> bytes:
        """A sort key: an execution's signal fence comes directly after the execution's messages.

        Up to its last slash, the sort key is the same for all keys of an execution.
        """
        kind, _, name = key[len(self.root) + len("wake/") :].partition(b"/")
        return name + b"/\xff" if kind == b"mail" else name
