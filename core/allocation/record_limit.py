"""The bound of records in a pool (SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS).

See docs/reference/limits.md, "Records of a pool".

The bound keeps status reports small; nothing in the log depends on it. A pool that cannot hold more
than the bound is never counted. For others the claims are counted, and the count is believed for a
while that shrinks as the bound comes near: near it every ADD counts. Nodes that count at the same
moment may overshoot by a few records.
"""

from __future__ import annotations

from core.allocation.address_finder import Finder
from core.domain.addresses.address_set import AddressSet
from core.errors import AddressesUsedOut

RECORDS_MAX = 5_000
"""Default bound of claims in one pool."""

COUNT_SHARE = 16
"""After a count, 1/16 of what is left may be claimed before the next count."""


class RecordLimit:
    """Says whether a pool may take one more record."""

    def __init__(self, finder: Finder, records_max: int) -> None:
        self._finder = finder
        self._records_max = records_max
        self._budget: dict[str, int] = {}

    def allows(self, pool: str, usable: AddressSet) -> bool:
        """Whether one more record is within the bound by what is known; it is counted then."""
        if not self._records_max or usable.size <= self._records_max:
            return True
        left = self._budget.get(pool, 0)
        if left > 0:
            self._budget[pool] = left - 1
        return left > 0

    async def refusal(self, pool: str, usable: AddressSet) -> str:
        """Why no more may be claimed, as users see it, or "". Raises StoreUnavailable."""
        if self.allows(pool, usable):
            return ""
        left = self._records_max - await self._finder.count(usable)
        self._budget[pool] = left // COUNT_SHARE
        if left > 0:
            return ""
        return (
            f"{AddressesUsedOut.sentinel}, threshold of IP records(<={self._records_max})"
            f" for IPPool {pool} exceeded"
        )
