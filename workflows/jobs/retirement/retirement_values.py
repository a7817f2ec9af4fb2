"""The values of retirements: request, remaining claims, result. All have a limited size."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.domain.configuration.commands import Retirable

POOL_WORKFLOW: Final = "pool-retirement"
SUBNET_WORKFLOW: Final = "subnet-retirement"

CHECK_SIGNAL: Final = "look"
REQUEST_SIGNAL: Final = "order"
"""Signals. ``CHECK_SIGNAL``: take a step, because the claims may have changed. ``REQUEST_SIGNAL``:
use another request."""

HOLDERS_SHOWN_MAX: Final = 20
"""Maximum number of claims that ``RemainingClaims`` names."""

POOLS_NAMED_MAX: Final = 100
"""Maximum number of pools that ``RemainingClaims`` names. Only named pools get a child."""

AtDeadline = Literal["wait", "reinstate"]
"""What happens at the deadline; see ``RetirementRequest``."""


def retirement_id(kind: Retirable, name: str) -> str:
    """The workflow id of a retirement."""
    return f"retire/{kind}/{name}"


class RetirementRequest(NamedTuple):
    """The object to retire, and the deadline.

    ``deadline_s``: seconds from the request on, 0: no deadline. ``at_deadline``: ``wait`` marks the
    retirement overdue, ``reinstate`` makes the object serve again. ``ordered_by``: the user or the
    subnet's workflow that requested the retirement.
    """

    name: str
    deadline_s: float = 0.0
    at_deadline: AtDeadline = "wait"
    ordered_by: str = ""


class BlockingClaim(NamedTuple):
    """A claim that blocks the deletion. ``position``: the log position of the claim's event."""

    address: str
    pod: str
    position: int


class RemainingClaims(NamedTuple):
    """The claims or pools that remain after a step.

    ``state``: ``held`` if claims or pools block the deletion, ``serving`` if the object is not
    retiring, ``gone`` if it was deleted. ``claims`` and ``pool_count`` count the blocking claims
    and pools. ``holders`` and ``pools`` name some of these.
    """

    state: Literal["held", "serving", "gone"] = "held"
    claims: int = 0
    holders: tuple[BlockingClaim, ...] = ()
    pool_count: int = 0
    pools: tuple[str, ...] = ()

    @property
    def blocking(self) -> int:
        """The number of blocking claims of a pool, or pools of a subnet."""
        return self.claims or self.pool_count


class RetirementResult(NamedTuple):
    """The end of a retirement: the object was ``deleted``, or is ``serving`` again."""

    state: Literal["deleted", "serving"]
    took_s: float = 0.0


class ContinuedRetirement(NamedTuple):
    """The state for the next run.

    ``since_s`` and ``ordered_s``: start of the retirement and time of the last request, in Unix
    seconds, 0 in the first run. ``unchanged_steps``: consecutive steps without a change of
    ``left``. ``children``: names of the pools with a child execution.
    """

    since_s: float = 0.0
    ordered_s: float = 0.0
    unchanged_steps: int = 0
    left: RemainingClaims = RemainingClaims()
    children: tuple[str, ...] = ()
