"""The activities of a quarantined address: see whether it still is, probe it, give it back.

All three name the stranger the address was set aside for, so that what comes late says nothing
about another quarantine of the same address, and a person's quarantine is never touched.
"""

from __future__ import annotations

from typing import Final

from core.configuration.command_scope import ScopeReader
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.commands import ReturnAddress
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import ConflictingHost
from core.eventstore.codec import QUARANTINE
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from workflows.api import activity
from workflows.jobs.quarantine.prober import Prober, ProbeResult, ProbeTarget
from workflows.jobs.writers import ShardWriters

OVER: Final = ProbeResult("over")


class QuarantineActivities:
    """The activities and what they need."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writers: ShardWriters, prober: Prober
    ) -> None:
        self._store = store
        self._keys = keys
        self._writers = writers
        self._prober = prober

    @activity.defn(name="quarantine-check")
    async def check(self, address: str, stranger: ConflictingHost) -> bool:
        """Whether the address is still set aside for this stranger. Raises StoreUnavailable."""
        found = (await self._store.read([Get(self._keys.quarantine_of(address))])).ranges[0].kvs
        return bool(found) and QUARANTINE.decode(found[0].value).conflicting_host == stranger

    @activity.defn(name="quarantine-probe")
    async def probe(self, address: str, stranger: ConflictingHost) -> ProbeResult:
        """Ask once. Raises StoreUnavailable."""
        if not await self.check(address, stranger):
            return OVER
        return await self._prober.probe(ProbeTarget(address, await self._witness(address)))

    @activity.defn(name="quarantine-return")
    async def give_back(self, address: str, stranger: ConflictingHost, reason: str) -> bool:
        """Lift the quarantine; False if it was over. Raises as ``ShardWriters.apply``."""
        applied = await self._writers.apply(ReturnAddress(address, stranger, reason))
        return bool(applied.events)

    async def _witness(self, address: str) -> str:
        """The gateway of the pool that has the address, or of its subnet."""
        family, value = parsed = parse_address(address)
        near = await ScopeReader(self._store, self._keys).read_around(parsed)
        for room in (near.pools, near.subnets):
            for one in room.values():
                if one.family == family and value in pool_addresses(one) and one.gateway:
                    return one.gateway
        return ""
