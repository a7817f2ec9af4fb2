"""What the projector publishes: a view per pool, and the checkpoint that says how far they go.

Views are hints for agents and reports for people, never the truth: an agent that acts on one is
guarded by the keys themselves (I2). Free intervals are bounded; the widest are told. Nothing here
reads or writes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.address_set import AddressSet
from core.domain.addresses import Family, format_range
from core.domain.possible import check_counts
from core.projections.tally import PoolCounts, PoolTally
from core.store.codec import StateCodec
from core.store.kinds import KeyKind

FREE_INTERVALS_MAX = 64
"""Free intervals in one view."""

CHECKPOINT = "projector"
"""The name of the checkpoint under ``meta/``."""


class PoolView(NamedTuple):
    """A pool at ``position``. ``free``: ``A`` or ``A-B``; the widest when not ``complete``."""

    name: str
    family: Family
    position: int
    counts: PoolCounts
    free: tuple[str, ...]
    complete: bool

    def same_content(self, other: PoolView) -> bool:
        """Whether both say the same, whenever they were made."""
        return self._replace(position=other.position) == other


class Checkpoint(NamedTuple):
    """Every view shows at least what was so at ``position``; ``at_ms`` is the projector's clock."""

    position: int
    at_ms: int
    writer: str


def _check_view(view: PoolView) -> None:
    check_counts(view.position, *view.counts)
    AddressSet.from_items(view.free, view.family)


POOL_VIEW = StateCodec(PoolView, _check_view)
CHECKPOINTS = StateCodec(Checkpoint, lambda one: check_counts(one.position, one.at_ms))

REWRITTEN: Final = "nothing: the controller that leads writes it anew"
POOL_VIEWS: Final[KeyKind[PoolView]] = KeyKind(
    *("pool view", "view/pool", POOL_VIEW.decode, ("agent", "controller", "orbctl"), REWRITTEN),
    key_of=lambda keys, view: keys.pool_view(view.name),
)
CHECKPOINT_KIND: Final[KeyKind[Checkpoint]] = KeyKind(
    "projector checkpoint", f"meta/{CHECKPOINT}", CHECKPOINTS.decode, ("controller", "orbctl"),
    REWRITTEN,
)  # fmt: skip


def view_of(tally: PoolTally, position: int) -> PoolView:
    """The view of a pool."""
    family = tally.pool.family
    items = (format_range(family, *pair) for pair in tally.free.widest(FREE_INTERVALS_MAX))
    return PoolView(
        tally.pool.name,
        family,
        position,
        tally.counts,
        tuple(items),
        complete=len(tally.free) <= FREE_INTERVALS_MAX,
    )
