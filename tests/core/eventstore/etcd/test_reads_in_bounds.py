"""A read in pages shows one revision; a read or a watch that cannot continue raises Compacted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.errors import Compacted, WatchTooFarBehind
from core.eventstore.etcd import EtcdSettings, EtcdStore, reads, watch
from core.eventstore.etcd.calls import Calls
from core.eventstore.kv import Delete, Get, Put
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd

DEADLINE_S = 60.0
KEY_COUNT = 50
PAGE_KEYS = 10
ALL_KEYS = Get(b"/k/", b"/k0")


@pytest.fixture
async def store(
    one_member_etcd: EtcdCluster, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> EtcdStore:
    monkeypatch.setattr(reads, "FIRST_PAGE_KEYS", PAGE_KEYS)
    monkeypatch.setattr(reads, "PAGE_KEYS_MAX", PAGE_KEYS)
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    await store.commit([], [Put(b"/k/%02d" % number, b"old") for number in range(KEY_COUNT)])
    return store


def rewrite_during_reads(
    monkeypatch: pytest.MonkeyPatch, store: EtcdStore, *, rewrites: int, compact: bool
) -> list[str]:
    """After the first page of a read, rewrite all keys; do so ``rewrites`` times.

    Return a list that collects the range calls.
    """
    calls: list[str] = []
    repeat = Calls.repeat
    rewrites_left = rewrites

    async def repeat_and_rewrite(self: Calls, method: Any, request: Any) -> Any:
        nonlocal rewrites_left
        answer = await repeat(self, method, request)
        if method != "range":
            return answer
        calls.append(method)
        is_first_page = not request.revision
        if is_first_page and rewrites_left:
            rewrites_left -= 1
            writes = [Put(b"/k/%02d" % number, b"new") for number in range(KEY_COUNT)]
            revision = (await store.commit([], writes)).revision
            if compact:
                await store.compact(revision)
        return answer

    monkeypatch.setattr(Calls, "repeat", repeat_and_rewrite)
    return calls


async def test_all_pages_of_a_read_show_the_revision_of_the_first_page(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = rewrite_during_reads(monkeypatch, store, rewrites=1, compact=False)

    result = await store.read([ALL_KEYS])

    assert len(calls) == KEY_COUNT // PAGE_KEYS
    assert {kv.value for kv in result.ranges[0].kvs} == {b"old"}
    assert len(result.ranges[0].kvs) == KEY_COUNT
    assert all(kv.mod_revision <= result.revision for kv in result.ranges[0].kvs)


async def test_oldest_first_reads_more_keys_than_a_page_in_order(store: EtcdStore) -> None:
    for number in reversed(range(KEY_COUNT)):
        await store.commit([], [Put(b"/k/%02d" % number, b"new")])

    for limit in (0, PAGE_KEYS * 2):
        oldest = ALL_KEYS._replace(oldest_first=True, limit=limit)
        keys = [kv.key for kv in (await store.read([oldest])).ranges[0].kvs]
        expected = [b"/k/%02d" % number for number in reversed(range(KEY_COUNT))]
        assert keys == expected[: limit or KEY_COUNT]


async def test_a_read_starts_again_when_its_revision_is_compacted(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_during_reads(monkeypatch, store, rewrites=1, compact=True)

    result = await store.read([ALL_KEYS])

    assert [kv.value for kv in result.ranges[0].kvs] == [b"new"] * KEY_COUNT


async def test_a_read_raises_compacted_when_the_revision_of_every_attempt_is_compacted(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A read makes fewer than 100 attempts.
    rewrite_during_reads(monkeypatch, store, rewrites=100, compact=True)

    with pytest.raises(Compacted) as caught:
        await store.read([ALL_KEYS])

    assert (await store.read([Get(b"/k/00")], revision=caught.value.revision)).ranges[0].count == 1


async def test_a_watch_of_two_ranges_fails_when_it_holds_too_many_changes(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = (await store.read([Get(b"/k/00")])).revision
    last = (await store.commit([], [Delete(b"/k/", b"/k0")])).revision
    monkeypatch.setattr(watch, "WATCH_HELD_CHANGES_MAX", KEY_COUNT - 1)

    with pytest.raises(WatchTooFarBehind) as caught:
        async with asyncio.timeout(DEADLINE_S):
            await anext(store.watch([(b"/k/", b"/k0"), (b"/l/", b"/l0")], after=start))

    assert caught.value.revision == last
    assert f"more than {KEY_COUNT - 1} changes" in caught.value.message
    assert (await store.read([ALL_KEYS], revision=last)).ranges[0].count == 0
