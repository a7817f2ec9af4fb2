"""The limit of claims in a pool (SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS).

See docs/reference/limits.md, "Records of a pool". Nodes that count claims at the same time may
exceed the limit by a few claims.
"""

from __future__ import annotations

from core.allocation.address_finder import Finder
from core.domain.addresses.address_set import AddressSet
from core.errors import AddressesUsedOut

RECORD_LIMIT_DEFAULT = 5_000

COUNT_SHARE = 16
"""After a count, 1/16 of the remaining claims is allowed without a new count."""


class RecordLimit:
    """Checks whether a pool may get one more claim (in Spiderpool: IP record)."""

    def __init__(self, finder: Finder, records_max: int) -> None:
        self._finder = finder
        self._records_max = records_max
        self._budget: dict[str, int] = {}

    def allows(self, pool: str, size: int) -> bool:
        """Whether one more claim is allowed without a count; if so, take it from the budget.

        If not, ``refusal`` decides. ``size``: the number of usable addresses of the pool.
        """
        if not self._records_max or size <= self._records_max:
            return True
        claims_left = self._budget.get(pool, 0)
        if claims_left > 0:
            self._budget[pool] = claims_left - 1
        return claims_left > 0

    async def refusal(self, pool: str, usable: AddressSet) -> str:
        """The text of the refusal if the limit is reached, else "". Raises StoreUnavailable."""
        if self.allows(pool, usable.size):
            return ""
        claims_left = self._records_max - await self._finder.count(usable)
        self._budget[pool] = claims_left // COUNT_SHARE
        if claims_left > 0:
            return ""
        # Spiderpool's text, so that a search for the text finds Spiderpool's documents.
        return (
            f"{AddressesUsedOut.sentinel}, threshold of IP records(<={self._records_max})"
            f" for IPPool {pool} exceeded"
        )
