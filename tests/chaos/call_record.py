"""What a caller was answered, with the revisions that order it against the log."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.callers import Reply, Sandbox


class CallRecord(NamedTuple):
    """One call and its answer.

    ``before`` is a revision of etcd that was reached when the call began, ``after`` one that was
    read after its answer: what the answer promises is in the log up to ``after``.
    """

    verb: str
    node: int
    sandbox: Sandbox
    reply: Reply
    before: int
    after: int

    @property
    def is_success(self) -> bool:
        """Whether the answer says that it is done."""
        return self.reply.code == 0
