"""The checkpoint: the position of the leading controller's projection.

It is only a report for users (``orbctl status``). Nothing here reads or writes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.plausibility import check_counts
from core.eventstore.codec import StateCodec
from core.eventstore.kinds import KeyKind

CHECKPOINT = "projector"
"""The name of the checkpoint under ``meta/``."""


class Checkpoint(NamedTuple):
    """Reports and metrics show at least what was so at ``position``; ``at_ms``: when written."""

    position: int
    at_ms: int
    writer: str


CHECKPOINTS = StateCodec(Checkpoint, lambda one: check_counts(one.position, one.at_ms))

REWRITTEN: Final = "nothing: the leading controller writes it again"
CHECKPOINT_KIND: Final[KeyKind[Checkpoint]] = KeyKind(
    "projector checkpoint", f"meta/{CHECKPOINT}", CHECKPOINTS.decode, ("controller", "orbctl"),
    REWRITTEN,
)  # fmt: skip
