"""Releases within ``LEASE_SHARED_S`` share the etcd lease that ends their cool-down."""

from __future__ import annotations

import asyncio

import pytest

from core.allocation.cooldown import AHEAD_S, LEASE_SHARED_S, CoolDown
from core.errors import StoreUnavailable
from core.eventstore.memory_store import MemoryStore


class SlowStore(MemoryStore):
    """A store that yields to the event loop before it grants a lease, as over a network."""

    async def grant_lease(self, ttl_s: int) -> int:
        await asyncio.sleep(0)
        return await super().grant_lease(ttl_s)


class FailingStore(MemoryStore):
    """A store that grants no lease while ``is_unavailable`` is set."""

    is_unavailable = True

    async def grant_lease(self, ttl_s: int) -> int:
        if self.is_unavailable:
            raise StoreUnavailable("simulated outage")
        return await super().grant_lease(ttl_s)


async def test_concurrent_releases_share_one_lease() -> None:
    cooldown = CoolDown(SlowStore())

    leases = await asyncio.gather(*(cooldown.lease() for _ in range(8)))

    assert len(set(leases)) == 1


async def test_a_release_gets_another_lease_after_lease_shared_s() -> None:
    now = 0.0
    cooldown = CoolDown(MemoryStore(), monotonic=lambda: now)
    first = await cooldown.lease()
    now = LEASE_SHARED_S

    assert await cooldown.lease() != first


async def test_the_next_lease_is_granted_before_a_release_needs_it() -> None:
    now = 0.0
    cooldown = CoolDown(MemoryStore(), monotonic=lambda: now)
    first = await cooldown.lease()
    now = LEASE_SHARED_S - AHEAD_S
    cooldown.grant_ahead()
    assert await cooldown.lease() == first
    for _ in range(3):  # until the grant ends
        await asyncio.sleep(0)

    now = LEASE_SHARED_S
    coroutine = cooldown.lease()

    # The coroutine must end at its first step, without a wait for the store.
    with pytest.raises(StopIteration) as returned:
        coroutine.send(None)
    assert returned.value.value != first


async def test_a_release_gets_a_lease_although_granting_it_ahead_failed() -> None:
    store = FailingStore()
    cooldown = CoolDown(store)
    cooldown.grant_ahead()
    await asyncio.sleep(0)

    store.is_unavailable = False

    assert await cooldown.lease()
