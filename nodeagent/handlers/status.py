"""STATUS: whether an ADD can be served now, exhaustion included (CNI 1.1.0).

    50   not ready, etcd away, no usable pool, or every pool of a family that is asked for is full
    51   an address claimed on this node is quarantined: a stranger uses it, so that containers
    which
         are there may be limited

Which pools: those of the configuration, else the default ones, else, since Pods name them then,
all. "Full" is established by reading etcd; the verdict is remembered for ``STATUS_CACHED_S``,
because runtimes ask every few seconds. It changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from core.allocation.address_finder import Finder
from core.domain.addresses.choice import Search
from core.domain.facts import PodReference, RequestFacts
from core.domain.selection import filters, wildcards
from core.domain.selection.request import (
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
from core.eventstore.keys import Keys
from core.eventstore.kinds import CLAIMS, ENDPOINTS, KeyKind
from core.eventstore.kv import Get, KeyValueStore, RangeResult
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from nodeagent.cni_protocol.failures import LIMITED, NOT_AVAILABLE, CniFailure
from nodeagent.cni_protocol.netconf import IpamConf
from nodeagent.facts import FactsSource
from nodeagent.health import AgentHealth

T = TypeVar("T")

STATUS_CACHED_S: Final = 2.0
NETWORKS_MAX: Final = 64
"""Verdicts remembered: one for each network of the node."""

QUARANTINED_A_READ: Final = 120
QUARANTINED_MAX: Final = 1_200
"""Quarantined addresses that one STATUS looks up; the log tells when there are more."""

_NOBODY: Final = PodReference(container="status")


class _Verdict(NamedTuple):
    until: float
    failure: CniFailure | None


class StatusSettings(NamedTuple):
    """``records_max`` as for the allocator: a pool with so many claims counts as full."""

    node: str
    selection: SelectionSettings
    records_max: int


class StatusHandler:
    """Answers STATUS."""

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
        self._asking = asyncio.Lock()
        self._verdicts: dict[IpamConf, _Verdict] = {}

    async def check(self, ipam: IpamConf) -> None:
        """Raises CniFailure with code 50 or 51."""
        failure = self._remembered(ipam)
        if failure is None:
            async with self._asking:
                failure = self._remembered(ipam)
                if failure is None:
                    failure = _Verdict(0.0, await self._judge(ipam))
                    if len(self._verdicts) >= NETWORKS_MAX:
                        self._verdicts.clear()
                    until = self._monotonic() + STATUS_CACHED_S
                    self._verdicts[ipam] = failure._replace(until=until)
        if failure.failure is not None:
            raise failure.failure

    def _remembered(self, ipam: IpamConf) -> _Verdict | None:
        found = self._verdicts.get(ipam)
        return found if found is not None and found.until > self._monotonic() else None

    async def _judge(self, ipam: IpamConf) -> CniFailure | None:
        fault = await self._health.fault()
        if fault is not None:
            return _not_available(fault)
        try:
            quarantined = await self._quarantined_here()
            exhausted = await self._exhaustion(ipam)
        except OrbweaverError as error:
            return _not_available(error)
        if quarantined:
            texts = [f"quarantined, but in use on this node: {', '.join(quarantined)}", exhausted]
            return CniFailure(
                LIMITED,
                "; ".join(text for text in texts if text),
                "a stranger uses them: `orbctl get quarantine` says who saw what",
            )
        if exhausted:
            return CniFailure(NOT_AVAILABLE, exhausted, "extend one of these pools, or add another")
        return None

    # Exhaustion

    async def _exhaustion(self, ipam: IpamConf) -> str:
        """Why no ADD of this network can succeed, "" if one can."""
        snapshot = self._view.current
        facts = self._facts.facts(_NOBODY)
        named = self._named(ipam, snapshot)
        if named is None:
            return await self._all_exhausted(facts, snapshot)
        for family, names in named.lists():
            usable = [name for name in names if self._is_usable(name, facts, snapshot)]
            which = f"{FAMILY_NAMES[family]} IPPools [{' '.join(names)}]"
            if not usable:
                return f"no IPPool available, none of the {which} can be used on this node"
            if not await self._any_free(usable, snapshot):
                return f"all IP addresses used out: {which}"
        if not (named.ipv4 or named.ipv6):
            return "no IPPool available, the configuration names none of an enabled IP version"
        return ""

    async def _all_exhausted(self, facts: RequestFacts, snapshot: ConfigurationSnapshot) -> str:
        """Nothing is named: Pods do it, and one usable pool with a free address is a chance."""
        usable = [name for name in snapshot.pools if self._is_usable(name, facts, snapshot)]
        if not usable:
            return "no IPPool available, there is none that can be used on this node"
        return "" if await self._any_free(usable, snapshot) else "all IP addresses used out"

    def _named(self, ipam: IpamConf, snapshot: ConfigurationSnapshot) -> NicPools | None:
        source, ipv4, ipv6 = SOURCE_CNI_CONF, ipam.default_ipv4_ippool, ipam.default_ipv6_ippool
        if not ipv4 and not ipv6:
            source = SOURCE_DEFAULT_POOLS
            ipv4, ipv6 = snapshot.catalog.defaults[4], snapshot.catalog.defaults[6]
        if not ipv4 and not ipv6:
            return None
        candidates = Candidates(source, (NicPools(CLUSTER_INTERFACE, ipv4, ipv6),))
        resolved = wildcards.resolve(candidates, snapshot.catalog, self._settings.selection)
        return resolved.nics[0]

    def _is_usable(self, name: str, facts: RequestFacts, snapshot: ConfigurationSnapshot) -> bool:
        held = snapshot.pools.get(name)
        if held is None or not self._settings.selection.enabled(held.pool.family):
            return False
        request = SelectionRequest(CLUSTER_INTERFACE)
        scene = filters.FilterInput(
            CLUSTER_INTERFACE,
            held.pool.family,
            request,
            facts,
            self._settings.selection,
            asked=True,
        )
        rules = (filters.alive, filters.node_fits)
        return all(rule(held.pool, scene) is None for rule in rules)

    async def _any_free(self, names: list[str], snapshot: ConfigurationSnapshot) -> bool:
        for name in names:
            usable = snapshot.usable(name)
            bound = self._settings.records_max
            if bound and usable.size > bound and await self._finder.count(usable) >= bound:
                continue
            if await self._finder.find(Search(usable, "sequential", ""), ()) is not None:
                return True
        return False

    # Strangers

    async def _quarantined_here(self) -> list[str]:
        """Quarantined addresses that endpoints of this node hold."""
        quarantine = sorted(self._view.current.quarantine)
        self._report_unread(len(quarantine))
        found: list[str] = []
        for first in range(0, min(len(quarantine), QUARANTINED_MAX), QUARANTINED_A_READ):
            found += await self._held_here(quarantine[first : first + QUARANTINED_A_READ])
        return found

    async def _held_here(self, quarantine: list[str]) -> list[str]:
        gets = [Get(self._keys.ip_of(address)) for address in quarantine]
        holders: dict[str, Get] = {}
        ranges = (await self._store.read(gets)).ranges
        for address, found in zip(quarantine, ranges, strict=True):
            claim = self._read(CLAIMS, found)
            if claim is not None:
                holders[address] = Get(self._keys.endpoint(claim.namespace, claim.pod))
        if not holders:
            return []
        ranges = (await self._store.read(list(holders.values()))).ranges
        return [
            address
            for address, found in zip(holders, ranges, strict=True)
            if (endpoint := self._read(ENDPOINTS, found)) and endpoint.node == self._settings.node
        ]

    def _read(self, kind: KeyKind[T], found: RangeResult) -> T | None:
        """What a key says; None where there is nothing, or nothing that can be read."""
        kv = found.first
        return None if kv is None else self._view.faults.read(kind, self._keys, kv.key, kv.value)

    def _report_unread(self, count: int) -> None:
        faults = self._view.faults
        if count <= QUARANTINED_MAX:
            faults.keep_within("QUARANTINED_MAX")
            return
        why = f"STATUS looks at {QUARANTINED_MAX} of {count} quarantined addresses"
        faults.reach_limit(
            "QUARANTINED_MAX",
            why,
            "`orbctl get quarantine` lists all; find the conflicting hosts, and lift what is over",
        )


def _not_available(error: OrbweaverError) -> CniFailure:
    return CniFailure(NOT_AVAILABLE, error.message, error.remedy)
