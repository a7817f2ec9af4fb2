"""The cool-down's leases: releases that come together share one."""

from __future__ import annotations

import asyncio

from core.service.cooldown import LEASE_SHARED_S, CoolDown
from core.store.memory import MemoryStore


class SlowStore(MemoryStore):
    """Grants after others have come, as a store behind a wire does."""

    async def grant_lease(self, ttl_s: int) -> int:
        await asyncio.sleep(0)
        return await super().grant_lease(ttl_s)


async def test_releases_that_come_at_once_share_one_lease() -> None:
    cooldown = CoolDown(SlowStore())

    leases = await asyncio.gather(*(cooldown.lease() for _ in range(8)))

    assert len(set(leases)) == 1


async def test_after_a_while_another_lease_is_granted() -> None:
    now = 0.0
    cooldown = CoolDown(MemoryStore(), monotonic=lambda: now)
    first = await cooldown.lease()
    now = LEASE_SHARED_S

    assert await cooldown.lease() != first
