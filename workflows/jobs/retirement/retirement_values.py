"""The values of retirements: what is ordered, what is left, how it ended. All bounded."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.domain.configuration.commands import Retirable

POOL_WORKFLOW: Final = "pool-retirement"
SUBNET_WORKFLOW: Final = "subnet-retirement"

LOOK: Final = "look"
ORDER: Final = "order"
"""Signals: something may have changed; another order, its deadline counted from now."""

HOLDERS_SHOWN_MAX: Final = 20
"""Claims that ``RemainingClaims`` names; it counts all of them."""

POOLS_NAMED_MAX: Final = 100
"""Pools of a subnet that are retired as children at the same time; the rest follow."""

AtDeadline = Literal["wait", "reinstate"]


def retirement_id(kind: Retirable, name: str) -> str:
    """The workflow id of a retirement."""
    return f"retire/{kind}/{name}"


class RetirementRequest(NamedTuple):
    """What is to be retired and for how long at most.

    ``deadline_s``: seconds from the order on, 0 for none. When it is over, ``at_deadline`` says
    whether the retirement is overdue and waits for people, or the object serves again.
    """

    name: str
    deadline_s: float = 0.0
    at_deadline: AtDeadline = "wait"
    ordered_by: str = ""


class BlockingClaim(NamedTuple):
    """A claim in the way; ``position`` is that of the event that made it."""

    address: str
    pod: str
    position: int


class RemainingClaims(NamedTuple):
    """What a look found.

    ``held``: claims or pools are in the way. ``serving``: it does not retire (any more). ``gone``:
    it was deleted. ``claims`` and ``pool_count`` count all, ``holders`` and ``pools`` name some.
    """

    state: Literal["held", "serving", "gone"] = "held"
    claims: int = 0
    holders: tuple[BlockingClaim, ...] = ()
    pool_count: int = 0
    pools: tuple[str, ...] = ()

    @property
    def in_the_way(self) -> int:
        """How much is in the way: claims of a pool, pools of a subnet."""
        return self.claims or self.pool_count


class RetirementResult(NamedTuple):
    """How a retirement ended: ``deleted``, or ``serving`` because somebody took it back."""

    state: Literal["deleted", "serving"]
    took_s: float = 0.0


class ContinuedRetirement(NamedTuple):
    """What one run leaves to the next. Times are Unix seconds; 0: never."""

    since_s: float = 0.0
    ordered_s: float = 0.0
    quiet_looks: int = 0
    left: RemainingClaims = RemainingClaims()
    children: tuple[str, ...] = ()
