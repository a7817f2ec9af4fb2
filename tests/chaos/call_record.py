"""The answer to a caller, with revisions that order it against the log."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.callers import Reply, Sandbox


class CallRecord(NamedTuple):
    """One call and its answer.

    ``before`` is a revision of etcd reached when the call began, ``after`` one read after its
    answer: the effect of the answer is in the log up to ``after``.
    """

    verb: str
    node: int
    sandbox: Sandbox
    reply: Reply
    before: int
    after: int

    @property
    def is_success(self) -> bool:
        """Whether the answer is a success."""
        return self.reply.code == 0
