"""The names of changed objects of a projection, kept until a reader takes them.

The reader gets names, and reads the current state of the named objects. So a late
reader still sees the result of every change. A refused ADD for an IPAMClaim changes no state, so
the buffer keeps the event. A rebuild of the projection adds no such events.
"""

from __future__ import annotations

from core.domain.events import AllocationRefused
from core.domain.evolution import EndpointKey, Ledger


class ChangeBuffer:
    """The changes for one reader, which gets the buffer from ``Projector.follow``."""

    __slots__ = ("endpoints", "pools", "refusals", "subnets")

    def __init__(self) -> None:
        self.pools: set[str] = set()
        self.subnets: set[str] = set()
        self.endpoints: set[EndpointKey] = set()
        self.refusals: dict[EndpointKey, AllocationRefused] = {}
        """The last refused ADD of each IPAMClaim."""

    def take(self) -> ChangeBuffer:
        """Return all changes and clear the buffer."""
        changes = ChangeBuffer()
        changes.add(self)
        self.pools.clear()
        self.subnets.clear()
        self.endpoints.clear()
        self.refusals.clear()
        return changes

    def add(self, other: ChangeBuffer) -> None:
        """Add all changes of another buffer."""
        self.pools |= other.pools
        self.subnets |= other.subnets
        self.endpoints |= other.endpoints
        self.refusals |= other.refusals

    def add_names_of(self, ledger: Ledger) -> None:
        """Add the names of all objects of a ledger."""
        self.pools |= ledger.pools.keys()
        self.subnets |= ledger.subnets.keys()
        self.endpoints |= ledger.endpoints.keys()
