"""The console's answers about pools, subnets and reservations at one instant. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final

from core.audit.indexed_log import LogInstant
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Family, format_address
from core.domain.autopools.pool_names import application_of
from core.domain.model import Pool, Route, Subnet
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.domain.subnets.subnet_model import count_addresses, owner_subnet_name
from core.errors import NotFound
from ops.console.address_states import COUNTED_STATES, PoolConfiguration, PoolStates, pool_states
from ops.console.forecasts import GrowthAt
from ops.console.json_values import (
    LIMIT_MAX,
    Document,
    PageRequest,
    clamped,
    instant_document,
    page_of,
)

UTILISATION_DIGITS: Final = 4


class PoolsAt:
    """The pools and subnets of one instant. Caches what it computes."""

    def __init__(self, instant: LogInstant, cool_down_s: float) -> None:
        self.instant = instant
        self.configuration = PoolConfiguration.at(instant)
        self.growth = GrowthAt(instant)
        self._cool_down_s = cool_down_s
        self._states: dict[str, PoolStates] = {}

    def pool(self, name: str) -> Pool:
        """Find a pool. Raises NotFound."""
        pool = self.configuration.pools.get(name)
        if pool is None:
            raise NotFound(
                f"there is no IPPool {name[:64]!r} at this instant",
                subject="pool",
                remedy="choose an instant at which it existed (`orbctl history pool NAME`)",
            )
        return pool

    def states(self, pool: Pool) -> PoolStates:
        """The states of the pool's addresses."""
        states = self._states.get(pool.name)
        if states is None:
            states = pool_states(self.instant, self.configuration, pool, self._cool_down_s)
            self._states[pool.name] = states
        return states

    @cached_property
    def subnets(self) -> Mapping[str, Subnet]:
        """The subnets, by name."""
        return self.instant.log.subnets.at(self.instant.position)

    @cached_property
    def _pools_by_subnet(self) -> Mapping[str, Mapping[str, Pool]]:
        """Subnet -> its pools by name; "" -> the pools without a subnet."""
        owned: defaultdict[str, dict[str, Pool]] = defaultdict(dict)
        for name, pool in sorted(self.configuration.pools.items()):
            owned[owner_subnet_name(pool)][name] = pool
        return owned

    def of_subnet(self, subnet: str) -> Mapping[str, Pool]:
        """The pools of a subnet, by name."""
        return self._pools_by_subnet.get(subnet, {})

    def fullest(self) -> list[Pool]:
        """All pools, the fullest first."""
        pools = self.configuration.pools.values()
        return sorted(pools, key=lambda pool: (-self.states(pool).utilisation, pool.name))

    def totals(self) -> dict[Family, Document]:
        """``Counts`` of console-api.yaml for each family, summed over its pools."""
        sums: dict[Family, Document] = {
            4: dict.fromkeys(("total", *COUNTED_STATES), 0),
            6: dict.fromkeys(("total", *COUNTED_STATES), 0),
        }
        for pool in self.configuration.pools.values():
            of_family = sums[pool.family]
            for name, number in self.states(pool).counts().items():
                of_family[name] = clamped(of_family[name] + number)
        return sums

    def summary(self, pool: Pool) -> Document:
        """``PoolSummary`` of console-api.yaml."""
        states = self.states(pool)
        in_cool_down = states.states["resting"]
        free = states.states["free"].size + in_cool_down.size
        return {
            "name": pool.name,
            "family": pool.family,
            "subnet": pool.subnet,  # a CIDR
            "owner": owner_subnet_name(pool),  # the name of a SpiderSubnet
            "application": _application(pool),
            "counts": states.counts(),
            "utilisation": round(states.utilisation, UTILISATION_DIGITS),
            "forecast": self.growth.of_pool(pool.name, free),
            "retiring": pool.retiring,
            "disabled": pool.disabled,
            "default": pool.default,
        }

    def subnet_summary(self, subnet: Subnet) -> Document:
        """``SubnetSummary`` of console-api.yaml."""
        pools = self.of_subnet(subnet.name)
        counts = count_addresses(subnet, pools)
        return {
            "name": subnet.name,
            "family": subnet.family,
            "subnet": subnet.subnet,
            "ips": list(subnet.ips),
            "excludeIPs": list(subnet.exclude_ips),
            "gateway": subnet.gateway,
            "total": clamped(counts.total),
            "allocated": clamped(counts.allocated),
            "free": clamped(counts.free),
            "utilisation": round(counts.allocated / counts.total, UTILISATION_DIGITS)
            if counts.total
            else 0.0,
            "forecast": self.growth.of_subnet(subnet, counts.free),
            "retiring": subnet.retiring,
            "pools": [*pools],
        }


def pool_page(pools: PoolsAt, request: PageRequest) -> Document:
    """``PoolPage`` of console-api.yaml."""
    sorted_pools = sorted(pools.configuration.pools.values(), key=lambda pool: pool.name)
    items, page = page_of(sorted_pools, request)
    at = instant_document(pools.instant)
    return {"at": at, "items": [pools.summary(pool) for pool in items], **page}


def pool_answer(pools: PoolsAt, name: str) -> Document:
    """``PoolAnswer`` of console-api.yaml. Raises NotFound."""
    pool = pools.pool(name)
    first, last = pools.states(pool).span
    document = {
        **pools.summary(pool),
        "ips": list(pool.ips),
        "excludeIPs": list(pool.exclude_ips),
        "gateway": pool.gateway,
        "routes": [route_document(route) for route in pool.routes or ()],
        "nodeNames": list(pool.node_names),
        "namespaceNames": list(pool.namespace_names),
        "multusNames": list(pool.multus_names),
        "labels": pool.labels,
        "first": format_address(pool.family, first) if last >= first else "",
        "last": format_address(pool.family, last) if last >= first else "",
        "growth": pools.growth.levels(name),
    }
    return {"at": instant_document(pools.instant), "pool": document}


def route_document(route: Route) -> Document:
    """``Route`` of console-api.yaml."""
    return {"to": route.dst, "via": route.gw}


def _application(pool: Pool) -> str:
    owner = application_of(pool.labels)
    return f"{owner.namespace}/{owner.name}" if owner is not None else ""


def subnet_page(pools: PoolsAt, request: PageRequest) -> Document:
    """``SubnetPage`` of console-api.yaml."""
    items, page = page_of([pools.subnets[name] for name in sorted(pools.subnets)], request)
    at = instant_document(pools.instant)
    return {"at": at, "items": [pools.subnet_summary(subnet) for subnet in items], **page}


def subnet_answer(pools: PoolsAt, name: str) -> Document:
    """``SubnetAnswer`` of console-api.yaml. Raises NotFound."""
    subnet = pools.subnets.get(name)
    if subnet is None:
        raise NotFound(
            f"there is no SpiderSubnet {name[:64]!r} at this instant",
            subject="subnet",
            remedy="choose an instant at which it existed (`orbctl history subnet NAME`)",
        )
    owned_pools = list(pools.of_subnet(name).values())[:LIMIT_MAX]
    return {
        "at": instant_document(pools.instant),
        "subnet": {
            **pools.subnet_summary(subnet),
            "routes": [route_document(route) for route in subnet.routes or ()],
            "labels": subnet.labels,
        },
        "pools": [pools.summary(pool) for pool in owned_pools],
    }


def reservation_page(pools: PoolsAt, request: PageRequest) -> Document:
    """``ReservationPage`` of console-api.yaml. The first page also has quarantined addresses."""
    reservations = pools.configuration.reservations
    items, page = page_of([reservations[name] for name in sorted(reservations)], request)
    return {
        "at": instant_document(pools.instant),
        "items": [
            {
                "name": item.name,
                "family": item.family,
                "ips": list(item.ips),
                "size": clamped(AddressSet.from_items(item.ips, item.family).size),
            }
            for item in items
        ],
        "quarantined": [] if request.cursor else list(_quarantined(pools, request.limit)),
        **page,
    }


def _quarantined(pools: PoolsAt, limit: int) -> Iterator[Document]:
    for quarantine in list(pools.configuration.quarantine.values())[:limit]:
        host = quarantine.conflicting_host
        yield {
            "address": quarantine.address,
            "reason": quarantine.reason,
            "evidence": evidence_text(quarantine),
            "mac": host.mac if host else "",
            "node": host.node if host else "",
        }
