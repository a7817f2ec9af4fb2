"""A recorded call to an agent."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.callers import Reply, Sandbox


class CallRecord(NamedTuple):
    """A call with its answer, and a revision of etcd before and after it.

    etcd had ``revision_before`` before the call. ``revision_after`` was read after the answer, so
    the log up to this revision has the events of a successful call.
    """

    verb: str
    node: int
    sandbox: Sandbox
    reply: Reply
    revision_before: int
    revision_after: int

    @property
    def is_success(self) -> bool:
        return self.reply.code == 0
