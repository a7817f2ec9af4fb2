"""STATUS: whether an ADD can succeed now, and whether pools have free addresses (CNI 1.1.0).

Error codes:

    50   not ready, etcd unavailable, no usable pool, or all pools of a requested family are full
    51   a Pod of this node holds a quarantined address, which a conflicting host uses too

STATUS checks the pools of the network configuration, else the default pools, else all pools,
because Pods can name any pool. The result is cached: runtimes call STATUS every few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from core.allocation.address_finder import Finder
from core.domain.addresses.choice import Search
from core.domain.request_facts import PodReference, RequestFacts
from core.domain.selection import pool_filters, wildcards
from core.domain.selection.selection_request import (
    CLUSTER_INTERFACE,
    FAMILY_NAMES,
    SOURCE_CNI_CONF,
    SOURCE_DEFAULT_POOLS,
    Candidates,
    NicPools,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import OrbweaverError
from core.eventstore.codec import KeyKind
from core.eventstore.keys import Keys
from core.eventstore.kinds import CLAIM_KEYS, ENDPOINT_KEYS
from core.eventstore.kv import Get, KeyValueStore, RangeResult
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from nodeagent.cni_protocol.failures import LIMITED_CONNECTIVITY, NOT_AVAILABLE, CniFailure
from nodeagent.cni_protocol.netconf import IpamConf
from nodeagent.health import AgentHealth
from nodeagent.pod_facts import FactsSource

T = TypeVar("T")

ADD_RANGES: Final = "add ranges to a pool, or add a pool"
CHECK_POOLS: Final = (
    "check that the pools exist, that `disable` is not set, and that their nodeName and"
    " nodeAffinity match this node"
)
NAME_POOLS: Final = "name pools of an enabled IP version (enableIPv4, enableIPv6 of conf.yml)"

STATUS_CACHED_S: Final = 2.0

CACHED_STATUSES_MAX: Final = 64
"""One status is cached for each network configuration."""

QUARANTINED_PER_READ: Final = 120
"""By default etcd allows 128 operations in a transaction."""

QUARANTINED_MAX: Final = 1_200
"""The most quarantined addresses that STATUS checks. More are a fault."""

_NO_POD: Final = PodReference(container="status")


class _CachedStatus(NamedTuple):
    until: float
    failure: CniFailure | None


class StatusSettings(NamedTuple):
    """The settings of STATUS.

    ``records_max``: the number of claims that makes a pool full; 0: no limit.
    """

    node: str
    selection: SelectionSettings
    records_max: int


class StatusHandler:
    """Handles STATUS."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        view: ConfigurationView,
        health: AgentHealth,
        facts: FactsSource,
        settings: StatusSettings,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._keys = keys
        self._view = view
        self._health = health
        self._facts = facts
        self._settings = settings
        self._monotonic = monotonic
        self._finder = Finder(store, keys)
        self._lock = asyncio.Lock()
        self._cache: dict[IpamConf, _CachedStatus] = {}

    async def handle_status(self, ipam: IpamConf) -> None:
        """Raises CniFailure with code 50 or 51."""
        status = self._cached(ipam)
        if status is None:
            async with self._lock:
                status = self._cached(ipam)
                if status is None:
                    failure = await self._find_failure(ipam)
                    status = _CachedStatus(self._monotonic() + STATUS_CACHED_S, failure)
                    if len(self._cache) >= CACHED_STATUSES_MAX:
                        self._cache.clear()
                    self._cache[ipam] = status
        if status.failure is not None:
            raise status.failure

    def _cached(self, ipam: IpamConf) -> _CachedStatus | None:
        status = self._cache.get(ipam)
        return status if status is not None and status.until > self._monotonic() else None

    async def _find_failure(self, ipam: IpamConf) -> CniFailure | None:
        fault = await self._health.probe_fault()
        if fault is not None:
            return _not_available(fault)
        try:
            quarantined = await self._quarantined_addresses_on_node()
            exhaustion = await self._exhaustion(ipam)
        except OrbweaverError as error:
            return _not_available(error)
        if quarantined:
            text = f"Pods of this node hold quarantined addresses: {', '.join(quarantined)}"
            return CniFailure(
                LIMITED_CONNECTIVITY,
                text if exhaustion is None else f"{text}; {exhaustion.message}",
                "other hosts use the quarantined addresses too: find these hosts by their MAC"
                " addresses (`orbctl get quarantine`)",
            )
        return exhaustion

    # Exhaustion

    async def _exhaustion(self, ipam: IpamConf) -> CniFailure | None:
        """Why no ADD of this network can succeed; None if an ADD can succeed."""
        snapshot = self._view.current
        facts = self._facts.facts(_NO_POD)
        named_pools = self._named_pools(ipam, snapshot)
        if named_pools is None:
            return await self._exhaustion_of_all_pools(facts, snapshot)
        for family, names in named_pools.lists():
            usable_pools = [name for name in names if self._is_usable(name, facts, snapshot)]
            pools_text = f"{FAMILY_NAMES[family]} IPPools [{' '.join(names)}]"
            if not usable_pools:
                text = f"no IPPool available, none of the {pools_text} can be used on this node"
                return CniFailure(NOT_AVAILABLE, text, CHECK_POOLS)
            if not await self._any_free(usable_pools, snapshot):
                return CniFailure(
                    NOT_AVAILABLE, f"all IP addresses used out: {pools_text}", ADD_RANGES
                )
        if not (named_pools.ipv4 or named_pools.ipv6):
            text = "no IPPool available, the configuration names no pool of an enabled IP version"
            return CniFailure(NOT_AVAILABLE, text, NAME_POOLS)
        return None

    async def _exhaustion_of_all_pools(
        self, facts: RequestFacts, snapshot: ConfigurationSnapshot
    ) -> CniFailure | None:
        usable_pools = [name for name in snapshot.pools if self._is_usable(name, facts, snapshot)]
        if not usable_pools:
            text = "no IPPool available, no IPPool can be used on this node"
            return CniFailure(NOT_AVAILABLE, text, CHECK_POOLS)
        if await self._any_free(usable_pools, snapshot):
            return None
        return CniFailure(NOT_AVAILABLE, "all IP addresses used out", ADD_RANGES)

    def _named_pools(self, ipam: IpamConf, snapshot: ConfigurationSnapshot) -> NicPools | None:
        source, ipv4, ipv6 = SOURCE_CNI_CONF, ipam.default_ipv4_ippool, ipam.default_ipv6_ippool
        if not ipv4 and not ipv6:
            source = SOURCE_DEFAULT_POOLS
            ipv4, ipv6 = snapshot.catalog.defaults[4], snapshot.catalog.defaults[6]
        if not ipv4 and not ipv6:
            return None
        candidates = Candidates(source, (NicPools(CLUSTER_INTERFACE, ipv4, ipv6),))
        resolved_candidates = wildcards.resolve(
            candidates, snapshot.catalog, self._settings.selection
        )
        return resolved_candidates.nics[0]

    def _is_usable(self, name: str, facts: RequestFacts, snapshot: ConfigurationSnapshot) -> bool:
        stored_pool = snapshot.pools.get(name)
        if stored_pool is None or not self._settings.selection.enabled(stored_pool.pool.family):
            return False
        request = SelectionRequest(CLUSTER_INTERFACE)
        filter_input = pool_filters.FilterInput(
            CLUSTER_INTERFACE,
            stored_pool.pool.family,
            request,
            facts,
            self._settings.selection,
            is_requested=True,
        )
        rules = (pool_filters.check_state, pool_filters.check_node)
        return all(rule(stored_pool.pool, filter_input) is None for rule in rules)

    async def _any_free(self, usable_pools: list[str], snapshot: ConfigurationSnapshot) -> bool:
        for name in usable_pools:
            usable_addresses = snapshot.usable(name)
            limit = self._settings.records_max
            if (
                limit
                and usable_addresses.size > limit
                and await self._finder.count(usable_addresses) >= limit
            ):
                continue
            search = Search(usable_addresses, order="sequential", seed="")
            if await self._finder.find(search, avoid=()) is not None:
                return True
        return False

    # Conflicting hosts

    async def _quarantined_addresses_on_node(self) -> list[str]:
        quarantine = sorted(self._view.current.quarantine)
        self._report_limit(len(quarantine))
        addresses: list[str] = []
        for first in range(0, min(len(quarantine), QUARANTINED_MAX), QUARANTINED_PER_READ):
            addresses += await self._addresses_held_on_node(
                quarantine[first : first + QUARANTINED_PER_READ]
            )
        return addresses

    async def _addresses_held_on_node(self, quarantine: list[str]) -> list[str]:
        gets = [Get(self._keys.ip_of(address)) for address in quarantine]
        endpoint_reads: dict[str, Get] = {}
        ranges = (await self._store.read(gets)).ranges
        for address, result in zip(quarantine, ranges, strict=True):
            claim = self._read(CLAIM_KEYS, result)
            if claim is not None:
                endpoint_reads[address] = Get(self._keys.endpoint(claim.namespace, claim.pod))
        if not endpoint_reads:
            return []
        ranges = (await self._store.read(list(endpoint_reads.values()))).ranges
        endpoints = [self._read(ENDPOINT_KEYS, result) for result in ranges]
        return [
            address
            for address, endpoint in zip(endpoint_reads, endpoints, strict=True)
            if endpoint is not None and endpoint.node == self._settings.node
        ]

    def _read(self, kind: KeyKind[T], result: RangeResult) -> T | None:
        """An invalid value is reported as a fault, and counts as missing."""
        kv = result.first
        return None if kv is None else kind.read(self._keys, kv.key, kv.value, self._view.faults)

    def _report_limit(self, count: int) -> None:
        faults = self._view.faults
        if count <= QUARANTINED_MAX:
            faults.clear_limit("QUARANTINED_MAX")
            return
        why = f"STATUS checks only {QUARANTINED_MAX} of {count} quarantined addresses"
        faults.reach_limit(
            "QUARANTINED_MAX",
            why,
            "find the conflicting hosts (`orbctl get quarantine`), then lift old quarantines",
        )


def _not_available(error: OrbweaverError) -> CniFailure:
    return CniFailure(NOT_AVAILABLE, error.message, error.remedy)
