"""The payloads of retirements. All have a limited size."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.domain.configuration.commands import Retirable

POOL_WORKFLOW: Final = "pool-retirement"
SUBNET_WORKFLOW: Final = "subnet-retirement"

CHECK_SIGNAL: Final = "look"
"""The workflow takes a step."""

REQUEST_SIGNAL: Final = "order"
"""The workflow uses the request in the signal from now on."""

HOLDERS_SHOWN_MAX: Final = 20
POOLS_NAMED_MAX: Final = 100
"""Only named pools get a child execution."""

AtDeadline = Literal["wait", "reinstate"]


def retirement_id(kind: Retirable, name: str) -> str:
    """The workflow id of a retirement."""
    return f"retire/{kind}/{name}"


class RetirementRequest(NamedTuple):
    """The object to retire, and the deadline.

    ``deadline_s``: seconds after the request; 0: no deadline. ``at_deadline``: with ``wait`` the
    retirement goes on, as overdue. ``ordered_by``: the user, or the workflow id of the subnet's
    retirement.
    """

    name: str
    deadline_s: float = 0.0
    at_deadline: AtDeadline = "wait"
    ordered_by: str = ""


class BlockingClaim(NamedTuple):
    """A claim that blocks the deletion. ``position``: the log position of its event."""

    address: str
    pod: str
    position: int


class RemainingClaims(NamedTuple):
    """The claims or pools that remain after a step.

    ``state``: ``held`` if they block the deletion, ``serving`` if the object is not retiring,
    ``gone`` if it was deleted. ``holders`` and ``pools`` name only some.
    """

    state: Literal["held", "serving", "gone"] = "held"
    claims: int = 0
    holders: tuple[BlockingClaim, ...] = ()
    pool_count: int = 0
    pools: tuple[str, ...] = ()

    @property
    def blocking(self) -> int:
        """The number of claims or pools that block the deletion."""
        return self.claims or self.pool_count


class RetirementResult(NamedTuple):
    """The end of a retirement."""

    state: Literal["deleted", "serving"]
    took_s: float = 0.0


class ContinuedRetirement(NamedTuple):
    """The state for the next run.

    ``since_s`` and ``ordered_s``: start of the retirement and time of the last request, in Unix
    seconds; 0 in the first run. ``children``: names of the pools that have a child execution.
    """

    since_s: float = 0.0
    ordered_s: float = 0.0
    unchanged_steps: int = 0
    left: RemainingClaims = RemainingClaims()
    children: tuple[str, ...] = ()
