"""A call and its answer, with revisions of etcd before the call and after the answer."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.callers import Reply, Sandbox


class CallRecord(NamedTuple):
    """One call and its answer.

    ``revision_before``: a revision that etcd had reached when the call began. ``revision_after``: a
    revision read after the answer: the log up to this revision has the effect of a successful call.
    """

    verb: str
    node: int
    sandbox: Sandbox
    reply: Reply
    revision_before: int
    revision_after: int

    @property
    def is_success(self) -> bool:
        """Whether the answer is a success."""
        return self.reply.code == 0
