"""The store uses another endpoint of etcd when one fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from core.errors import OutcomeUnknown, StoreTimeout, StoreUnavailable
from core.eventstore.etcd import EtcdSettings
from core.eventstore.kv import Absent, Get, Put
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.emulation import needs_real_time
from tests.support.etcd import EtcdCluster, free_ports

pytestmark = pytest.mark.etcd

DEADLINE_S = 60.0
STORES = 8
"""Several stores, because each store starts with a random endpoint."""


@pytest.fixture
def mute_endpoint() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refusing_endpoint() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


async def test_the_store_uses_another_endpoint_when_one_refuses(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    for number in range(STORES):
        store = open_store(EtcdSettings((refusing_endpoint(), *one_member_etcd.endpoints)))

        committed = await store.commit([Absent(b"k%d" % number)], [Put(b"k%d" % number, b"")])

        assert committed.succeeded
        assert store.endpoint == one_member_etcd.endpoints[0]


async def test_the_store_uses_another_endpoint_when_one_never_answers(
    one_member_etcd: EtcdCluster, open_store: OpenStore, mute_endpoint: str
) -> None:
    for number in range(STORES):
        store = open_store(EtcdSettings((mute_endpoint, *one_member_etcd.endpoints)))

        committed = await store.commit([Absent(b"k%d" % number)], [Put(b"k%d" % number, b"")])

        assert committed.succeeded
        assert store.endpoint == one_member_etcd.endpoints[0]


async def test_a_write_without_a_working_endpoint_raises_unavailable(
    open_store: OpenStore, mute_endpoint: str
) -> None:
    store = open_store(EtcdSettings((refusing_endpoint(), mute_endpoint)))

    with pytest.raises(StoreUnavailable) as caught:
        await store.commit([], [Put(b"k", b"")])

    assert not isinstance(caught.value, StoreTimeout), (
        "no request was sent, but the write raised StoreTimeout"
    )


async def test_a_read_without_a_working_endpoint_raises_unavailable_in_time(
    open_store: OpenStore,
) -> None:
    store = open_store(
        EtcdSettings((refusing_endpoint(),), read_attempt_s=0.1, read_deadline_s=0.5)
    )

    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(DEADLINE_S):
            await store.read([Get(b"k")])


async def test_closing_a_store_that_is_still_connecting_fails_its_calls(
    open_store: OpenStore, mute_endpoint: str
) -> None:
    store = open_store(EtcdSettings((mute_endpoint,)))
    writing = asyncio.create_task(store.commit([], [Put(b"k", b"")]))
    reading = asyncio.create_task(store.read([Get(b"k")]))
    await asyncio.sleep(0)

    await store.close()

    with pytest.raises(StoreUnavailable):
        await writing
    with pytest.raises(StoreUnavailable):
        await reading


async def test_a_read_moves_from_a_hung_member_to_another(
    three_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(
        EtcdSettings(three_member_etcd.endpoints, read_attempt_s=0.5, read_deadline_s=30.0)
    )
    await store.commit([], [Put(b"k", b"v")])
    hung_member = three_member_etcd.member_at(store.endpoint)

    hung_member.pause()
    result = await store.read([Get(b"k")])

    assert result.ranges[0].kvs[0].value == b"v"
    assert store.endpoint != hung_member.endpoint


@needs_real_time
async def test_a_read_times_out_when_the_only_member_hangs(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(
        EtcdSettings(one_member_etcd.endpoints, read_attempt_s=0.2, read_deadline_s=0.6)
    )
    await store.read([Get(b"k")])

    one_member_etcd.members[0].pause()

    with pytest.raises(StoreTimeout):
        await store.read([Get(b"k")])
    one_member_etcd.members[0].resume()
    assert (await store.read([Get(b"k")])).ranges[0].count == 0


async def test_the_write_after_an_unknown_outcome_uses_another_member(
    three_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(three_member_etcd.endpoints, write_deadline_s=0.5))
    await store.commit([], [Put(b"k", b"before")])
    # A follower is paused, because a loss of the leader would delay the next write.
    paused_member = next(
        member for member in three_member_etcd.members if member is not three_member_etcd.leader()
    )
    store._calls._endpoints._current = three_member_etcd.members.index(paused_member)
    await store.read([Get(b"k")])

    paused_member.pause()
    with pytest.raises(OutcomeUnknown):
        await store.commit([], [Put(b"k", b"lost?")])
    committed = await store.commit([], [Put(b"k", b"after")])

    assert committed.succeeded
    assert store.endpoint != paused_member.endpoint


async def test_a_store_works_after_a_restart_of_its_only_member(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (member,) = one_member_etcd.members
    await store.commit([], [Put(b"k", b"v")])

    member.kill()
    one_member_etcd.restart(member)

    assert (await store.read([Get(b"k")])).ranges[0].count == 1
    assert (await store.commit([], [Put(b"k", b"w")])).succeeded


async def test_a_lease_is_renewed_after_the_leader_was_killed(
    three_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(three_member_etcd.endpoints, read_deadline_s=30.0))
    lease = await store.grant_lease(60)

    three_member_etcd.leader().kill()

    assert await store.keep_lease(lease) == 60
