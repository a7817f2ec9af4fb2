"""The view of the configuration follows whatever comes, and says when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from core.errors import StoreRejected
from core.projections import configuration_view
from core.store.kv import Delete, Put, WatchBatch
from core.store.memory import MemoryStore
from tests.support.nodes import Node, pool


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(configuration_view, "RELOAD_PAUSE_S", 0)
    async with Node(MemoryStore()) as one:
        yield one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_a_value_that_nobody_can_read_makes_the_view_not_ready_until_it_is_gone(
    node: Node,
) -> None:
    key = node.keys.pool("strange")
    await node.store.commit([], [Put(key, b"of a version to come")])
    await until(lambda: not node.view.ready)

    await node.store.commit([], [Delete(key)])
    await until(lambda: node.view.ready)
    await node.apply(pool("a", "10.6.0.1"))

    assert list(node.view.current.pools) == ["a"]


async def test_a_watch_that_is_refused_is_opened_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    watch = node.store.watch

    async def refused(
        ranges: Sequence[tuple[bytes, bytes]], *, after: int
    ) -> AsyncIterator[WatchBatch]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise StoreRejected("the role was taken away")
        async for batch in watch(ranges, after=after):
            yield batch

    monkeypatch.setattr(node.store, "watch", refused)
    await node.view.close()
    await node.view.start()
    await until(lambda: opened == 2)
    await node.apply(pool("a", "10.6.0.1"))

    assert node.view.ready
    assert list(node.view.current.pools) == ["a"]
