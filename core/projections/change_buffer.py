"""Changes of a projection: the names of changed objects since they were last taken.

For one listener. It gets names, not differences, and reads the current state, so that it may be
late, be called repeatedly, or start again without missing a change. Bounded by the objects.

Refused ADDs for IPAMClaims change no state, so they come whole; a start from the state loses them.
"""

from __future__ import annotations

from core.domain.events import AllocationRefused
from core.domain.evolution import EndpointKey, Ledger


class ChangeBuffer:
    """One follower's. ``core.projections.projector.Projector.follow`` has it kept."""

    __slots__ = ("endpoints", "pools", "refusals", "subnets")

    def __init__(self) -> None:
        self.pools: set[str] = set()
        self.subnets: set[str] = set()
        self.endpoints: set[EndpointKey] = set()
        self.refusals: dict[EndpointKey, AllocationRefused] = {}
        """The last one of each claim."""

    def take(self) -> ChangeBuffer:
        """Return all changes and clear the buffer."""
        taken = ChangeBuffer()
        taken.add(self)
        self.pools.clear()
        self.subnets.clear()
        self.endpoints.clear()
        self.refusals.clear()
        return taken

    def add(self, other: ChangeBuffer) -> None:
        """What another one has, too."""
        self.pools |= other.pools
        self.subnets |= other.subnets
        self.endpoints |= other.endpoints
        self.refusals |= other.refusals

    def add_all(self, ledger: Ledger) -> None:
        """All keys of a ledger."""
        self.pools |= ledger.pools.keys()
        self.subnets |= ledger.subnets.keys()
        self.endpoints |= ledger.endpoints.keys()
