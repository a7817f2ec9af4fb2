"""Writes clusters with many pools and claims, for numbered Pods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.rig.frames import INTERFACE, NAMESPACE, identity
from bench.rig.seed_writer import CLAIMS_PER_COMMIT, SeedWriter
from core.domain.addresses.ip_address import format_address, parse_address
from core.domain.events import AddressesClaimed
from core.domain.model import Endpoint, Nic, Pool, pod_holder
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore

WRITERS = 4
"""Concurrent writers, whose revisions interleave as in production."""

_BASE = parse_address("10.0.0.0").value
_BASE_BITS = 24
"""Host bits of 10.0.0.0/8, in which all pools of this module are."""

_POOL_BITS = 14
_POOL_ADDRESSES = (1 << _POOL_BITS) - 3
"""All except the network address, the gateway and the last address."""

POOLS_MAX = 1 << (_BASE_BITS - _POOL_BITS)

_STRIDE = 161
"""Distance from one seeded address of a pool to the next; coprime to ``_POOL_ADDRESSES``."""

_SLICE_BITS = 6
SLICES_MAX = 1 << (_BASE_BITS - _SLICE_BITS)


class SeededAddress(NamedTuple):
    """The address of a seeded Pod."""

    pool: Pool
    address: str


def wide_pool(name: str = "wide") -> Pool:
    """A pool of four million addresses, of which nearly all stay free."""
    return Pool(
        name, 4, "10.0.0.0/10", ("10.0.0.2-10.63.255.254",), gateway="10.0.0.1", default=True
    )


def exact_pool(name: str, addresses: int, second_octet: int = 64) -> Pool:
    """A pool with ``addresses`` addresses (at most 65,533) of 10.``second_octet``.0.0/16."""
    net = f"10.{second_octet}.0"
    last = format_address(4, parse_address(f"{net}.2").value + addresses - 1)
    return Pool(name, 4, f"{net}.0/16", (f"{net}.2-{last}",), gateway=f"{net}.1", default=True)


def pool_name(number: int) -> str:
    """The name of a pool of ``many_pools``."""
    return f"pool-{number:04d}"


def many_pools(count: int) -> list[Pool]:
    """Pools of 16,381 addresses with adjacent CIDRs in 10.0.0.0/8. None is a default pool."""
    assert count <= POOLS_MAX, count
    return [_numbered_pool(number) for number in range(count)]


def slices(first: int, count: int) -> list[Pool]:
    """Pools of 60 addresses; all have the CIDR 10.0.0.0/8."""
    assert first + count <= SLICES_MAX, (first, count)
    pools = []
    for number in range(first, first + count):
        base = _BASE + (number << _SLICE_BITS)
        lowest, highest = (format_address(4, base + offset) for offset in (2, 61))
        pools.append(Pool(f"slice-{number:06d}", 4, "10.0.0.0/8", (f"{lowest}-{highest}",)))
    return pools


def spread_addresses(pools: Sequence[Pool], claims: int) -> Iterator[SeededAddress]:
    """Addresses spread over the pools, none adjacent to another."""
    for serial in range(claims):
        index_in_pool, pool_index = divmod(serial, len(pools))
        offset = 2 + index_in_pool * _STRIDE % _POOL_ADDRESSES
        value = _BASE + (pool_index << _POOL_BITS) + offset
        yield SeededAddress(pools[pool_index], format_address(4, value))


def all_addresses(pool: Pool) -> Iterator[SeededAddress]:
    """Every address of an ``exact_pool``, in order."""
    first, _, last = pool.ips[0].partition("-")
    for value in range(parse_address(first).value, parse_address(last).value + 1):
        yield SeededAddress(pool, format_address(4, value))


async def seed(
    store: KeyValueStore, keys: Keys, pools: Sequence[Pool], addresses: Iterator[SeededAddress]
) -> None:
    """Define the pools and claim the addresses, for Pods numbered from 0."""
    await SeedWriter(store, keys, "operator").define(pools)
    numbered = enumerate(addresses)

    async def write(writer: SeedWriter) -> None:
        while batch := _take(numbered, CLAIMS_PER_COMMIT):
            await writer.claim([_claim_event(serial, seeded) for serial, seeded in batch])

    await asyncio.gather(
        *(write(SeedWriter(store, keys, controller_writer(f"seed-{n}"))) for n in range(WRITERS))
    )


def _take(
    numbered: Iterator[tuple[int, SeededAddress]], count: int
) -> list[tuple[int, SeededAddress]]:
    return [pair for _, pair in zip(range(count), numbered, strict=False)]


def _numbered_pool(number: int) -> Pool:
    base = _BASE + (number << _POOL_BITS)
    texts = [format_address(4, base + offset) for offset in (0, 1, 2, (1 << _POOL_BITS) - 2)]
    net, gateway, first, last = texts
    prefix = 32 - _POOL_BITS
    return Pool(pool_name(number), 4, f"{net}/{prefix}", (f"{first}-{last}",), gateway=gateway)


def _claim_event(serial: int, seeded: SeededAddress) -> AddressesClaimed:
    pod = identity(serial)
    pool = seeded.pool
    prefix = pool.subnet.partition("/")[2]
    nic = Nic(
        INTERFACE,
        f"{seeded.address}/{prefix}",
        pool.name,
        pool.gateway,
        container=pod.container,
        network="lan",
        netns=pod.netns,
    )
    node = f"node-{serial % 50}"
    holder = pod_holder(pod.uid)
    endpoint = Endpoint(
        NAMESPACE,
        pod.name,
        pod.uid,
        node,
        holder,
        owner_kind="Pod",
        owner_name=pod.name,
        nics=(nic,),
    )
    return AddressesClaimed(endpoint, new_nics=(0,))
