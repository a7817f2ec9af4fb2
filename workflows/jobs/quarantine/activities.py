"""The activities of one quarantine.

Each activity gets the conflicting host, so that a late attempt changes no later quarantine.
"""

from __future__ import annotations

from typing import Final

from core.configuration.command_scope import ScopeReader
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.commands import ReturnAddress
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import ConflictingHost
from core.eventstore.codec import QUARANTINE_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from workflows.api import activity
from workflows.jobs.quarantine.prober import Prober, ProbeResult, ProbeTarget
from workflows.jobs.shard_writers import ShardWriters

ENDED: Final = ProbeResult("over")


class QuarantineActivities:
    """The activities of quarantined addresses."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writers: ShardWriters, prober: Prober
    ) -> None:
        self._store = store
        self._keys = keys
        self._writers = writers
        self._prober = prober

    @activity.defn(name="quarantine-check")
    async def check(self, address: str, host: ConflictingHost) -> bool:
        """Whether the address is still quarantined for this host. Raises StoreUnavailable."""
        stored = (await self._store.read([Get(self._keys.quarantine_of(address))])).ranges[0].kvs
        return bool(stored) and QUARANTINE_CODEC.decode(stored[0].value).conflicting_host == host

    @activity.defn(name="quarantine-probe")
    async def probe(self, address: str, host: ConflictingHost) -> ProbeResult:
        """Probe the address if it is still quarantined. Raises StoreUnavailable."""
        if not await self.check(address, host):
            return ENDED
        return await self._prober.probe(ProbeTarget(address, await self._gateway_of(address)))

    @activity.defn(name="quarantine-return")
    async def lift(self, address: str, host: ConflictingHost, reason: str) -> bool:
        """Lift the quarantine. False if others have lifted it. Raises as ``ShardWriters.apply``."""
        applied = await self._writers.apply(ReturnAddress(address, host, reason))
        return bool(applied.events) or await self._writers.wrote_before()

    async def _gateway_of(self, address: str) -> str:
        """The gateway of a pool with the address, else of a subnet with it, else ""."""
        family, value = parsed = parse_address(address)
        scope = await ScopeReader(self._store, self._keys).read_around(parsed)
        for objects in (scope.pools, scope.subnets):
            for pool in objects.values():
                if pool.family == family and value in pool_addresses(pool) and pool.gateway:
                    return pool.gateway
        return ""
