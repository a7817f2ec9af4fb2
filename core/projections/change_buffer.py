"""Changes of a projection: the names of changed objects since they were last taken.

For one listener. It gets names, not differences, and reads the current state, so that it may be
late, be called repeatedly, or start again without missing a change. Bounded by the objects.
"""

from __future__ import annotations

from core.domain.evolution import EndpointKey, Ledger


class ChangeBuffer:
    """One follower's. ``core.projections.projector.Projector.follow`` has it kept."""

    __slots__ = ("endpoints", "pools", "subnets")

    def __init__(self) -> None:
        self.pools: set[str] = set()
        self.subnets: set[str] = set()
        self.endpoints: set[EndpointKey] = set()

    def take(self) -> ChangeBuffer:
        """Return all changes and clear the buffer."""
        taken = ChangeBuffer()
        taken.add(self)
        self.pools.clear()
        self.subnets.clear()
        self.endpoints.clear()
        return taken

    def add(self, other: ChangeBuffer) -> None:
        """What another one has, too."""
        self.pools |= other.pools
        self.subnets |= other.subnets
        self.endpoints |= other.endpoints

    def add_all(self, ledger: Ledger) -> None:
        """All keys of a ledger."""
        self.pools |= ledger.pools.keys()
        self.subnets |= ledger.subnets.keys()
        self.endpoints |= ledger.endpoints.keys()
