"""A recorded call of an agent."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.callers import Reply, Sandbox


class CallRecord(NamedTuple):
    """A call with its answer and two revisions of etcd.

    ``revision_before``: an etcd revision before the call. ``revision_after``: read after the
    answer; the log up to this revision has the events of a successful call.
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
