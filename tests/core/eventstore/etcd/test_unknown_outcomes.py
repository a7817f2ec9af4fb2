"""The reported outcome of a write is true even when the cluster fails.

Invariant I9, docs/contributing/architecture.md.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

import pytest

from core.errors import OutcomeUnknown, StoreUnavailable
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Absent, Get, Put
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd

WRITERS = 8
DEADLINE_S = 60.0


class KeysByOutcome(NamedTuple):
    """The keys of all writes, by reported outcome."""

    committed: set[bytes]
    not_written: set[bytes]
    unknown: set[bytes]


async def write_until_stopped(
    store: EtcdStore, writer: int, stop: asyncio.Event, keys: KeysByOutcome
) -> None:
    number = 0
    while not stop.is_set():
        key = b"/w/%d/%06d" % (writer, number)
        number += 1
        try:
            result = await store.commit([Absent(key)], [Put(key, b"")])
        except StoreUnavailable:
            keys.not_written.add(key)
            await asyncio.sleep(0)
        except OutcomeUnknown:
            keys.unknown.add(key)
        else:
            # The guard fails if a request is sent twice.
            assert result.succeeded, key
            keys.committed.add(key)


async def until_committed(keys: KeysByOutcome, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(keys.committed) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("failure", ["kill", "pause", "stop"])
async def test_every_reported_outcome_is_true_when_the_leader_fails(
    three_member_etcd: EtcdCluster, open_store: OpenStore, failure: str
) -> None:
    settings = EtcdSettings(three_member_etcd.endpoints, write_deadline_s=1.0, read_deadline_s=30.0)
    stores = [open_store(settings) for _ in range(WRITERS)]
    keys = KeysByOutcome(set(), set(), set())
    stop = asyncio.Event()
    writing = [
        asyncio.create_task(write_until_stopped(store, writer, stop, keys))
        for writer, store in enumerate(stores)
    ]

    await until_committed(keys, 200)
    leader = three_member_etcd.leader()
    getattr(leader, failure)()
    await until_committed(keys, len(keys.committed) + 200)
    if failure == "pause":
        leader.resume()
    else:
        three_member_etcd.restart(leader)
    await until_committed(keys, len(keys.committed) + 200)
    stop.set()
    await asyncio.gather(*writing)

    present = {
        kv.key for kv in (await stores[0].read([Get(b"/w/", b"/w0", keys_only=True)])).ranges[0].kvs
    }
    assert keys.committed <= present
    assert not keys.not_written & present
    assert present <= keys.committed | keys.unknown


async def test_the_outcome_of_a_write_is_unknown_when_the_store_closes(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    await store.read([Get(b"k")])
    one_member_etcd.members[0].pause()
    writing = asyncio.create_task(store.commit([], [Put(b"k", b"")]))
    reading = asyncio.create_task(store.read([Get(b"k")]))
    await let_requests_start()

    await store.close()

    with pytest.raises(OutcomeUnknown):
        await writing
    with pytest.raises(StoreUnavailable):
        await reading


async def test_cancelling_a_read_does_not_affect_other_reads(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    one_member_etcd.members[0].pause()
    reads = [asyncio.create_task(store.read([Get(b"k")])) for _ in range(3)]
    await let_requests_start()

    reads[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await reads[0]
    one_member_etcd.members[0].resume()

    results = await asyncio.gather(*reads[1:])
    assert [result.ranges[0].count for result in results] == [0, 0]


async def test_a_full_database_leaves_the_outcome_unknown(
    tmp_path_factory: pytest.TempPathFactory, open_store: OpenStore
) -> None:
    """The server may return "database space exceeded" after it has applied the write."""
    flags = ["--quota-backend-bytes=2000000"]
    with EtcdCluster(tmp_path_factory.mktemp("quota"), flags=flags) as cluster:
        store = open_store(EtcdSettings(cluster.endpoints))
        # etcd checks the quota every 100 ms, so the number of accepted writes varies.
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(OutcomeUnknown, match="database space exceeded"):
                await write_until_an_error(store)
        assert (await store.read([Get(b"k0")])).ranges[0].count == 1


async def write_until_an_error(store: EtcdStore) -> None:
    for number in itertools.count():
        await store.commit([], [Put(b"k%d" % number, bytes(100_000))])


async def let_requests_start() -> None:
    """Run the event loop often enough for tasks to send their requests."""
    for _ in range(100):
        await asyncio.sleep(0)
