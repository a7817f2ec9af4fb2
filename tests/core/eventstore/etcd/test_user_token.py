"""The store requests and renews tokens. A refusal by etcd raises StoreRejected."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StoreRejected, StoreUnavailable
from core.eventstore.etcd import EtcdSettings
from core.eventstore.kv import Get, Put
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd

DEADLINE_S = 60.0
AS_ROOT = "--user=root:secret"


@pytest.fixture
def etcd_with_users(tmp_path: Path) -> Iterator[EtcdCluster]:
    """An etcd with a user ``agent`` for the keys below /agent/; tokens expire after 1 s."""
    # etcd logs expired tokens at the level debug.
    flags = ["--auth-token-ttl=1", "--log-level=debug"]
    with EtcdCluster(tmp_path, flags=flags) as cluster:
        cluster.etcdctl("user", "add", "root:secret")
        cluster.etcdctl("user", "grant-role", "root", "root")
        cluster.etcdctl("user", "add", "agent:hunter2")
        cluster.etcdctl("role", "add", "agent")
        cluster.etcdctl("role", "grant-permission", "agent", "readwrite", "/agent/", "/agent0")
        cluster.etcdctl("user", "grant-role", "agent", "agent")
        cluster.etcdctl("auth", "enable")
        yield cluster


def agent_settings(cluster: EtcdCluster, password: str = "hunter2") -> EtcdSettings:
    return EtcdSettings(cluster.endpoints, user="agent", password=password)


async def until_logged(cluster: EtcdCluster, words: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while words not in cluster.members[0].log():
            await asyncio.sleep(0.05)


async def test_a_user_reads_writes_and_watches_the_keys_of_its_role(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))

    committed = await store.commit([], [Put(b"/agent/k", b"v")])
    result = await store.read([Get(b"/agent/k"), Get(b"/agent/", b"/agent0")])
    batch = await anext(store.watch([(b"/agent/", b"/agent0")], after=committed.revision - 1))
    lease = await store.grant_lease(60)

    assert [key_range.count for key_range in result.ranges] == [1, 1]
    assert [change.key for change in batch.changes] == [b"/agent/k"]
    assert await store.keep_lease(lease) == 60


async def test_an_expired_token_is_renewed_and_the_write_succeeds(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))
    await store.commit([], [Put(b"/agent/k", b"1")])
    first_metadata = store._calls._token.metadata

    await until_logged(etcd_with_users, "deleted a simple token")
    committed = await store.commit([], [Put(b"/agent/k", b"2")])

    assert committed.succeeded
    assert store._calls._token.metadata != first_metadata


async def test_many_calls_succeed_after_etcd_has_lost_their_token(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))
    await store.read([Get(b"/agent/k")])
    etcd_with_users.members[0].kill()
    etcd_with_users.restart(etcd_with_users.members[0])

    results = await asyncio.gather(
        *(store.commit([], [Put(b"/agent/%d" % number, b"")]) for number in range(20)),
    )

    assert all(result.succeeded for result in results)


async def test_a_watch_renews_its_token_when_it_resumes(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))
    first_revision = (await store.commit([], [Put(b"/agent/k", b"1")])).revision
    stream = store.watch([(b"/agent/", b"/agent0")], after=first_revision - 1)
    await anext(stream)

    etcd_with_users.members[0].kill()
    etcd_with_users.restart(etcd_with_users.members[0])
    async with asyncio.timeout(DEADLINE_S):
        next_batch = asyncio.ensure_future(anext(stream))
        second_revision = (
            await open_store(agent_settings(etcd_with_users)).commit([], [Put(b"/agent/k", b"2")])
        ).revision
        batch = await next_batch

    assert [change.mod_revision for change in batch.changes] == [second_revision]


async def test_a_store_still_writes_after_authentication_is_enabled(
    tmp_path: Path, open_store: OpenStore
) -> None:
    with EtcdCluster(tmp_path) as cluster:
        store = open_store(EtcdSettings(cluster.endpoints, user="root", password="secret"))
        before = await store.commit([], [Put(b"k", b"1")])
        cluster.etcdctl("user", "add", "root:secret")
        cluster.etcdctl("user", "grant-role", "root", "root")
        cluster.etcdctl("auth", "enable")

        after = await store.commit([], [Put(b"k", b"2")])

        assert (before.succeeded, after.succeeded) == (True, True)


async def test_closing_a_store_that_waits_for_a_token_fails_its_calls(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))
    await store.read([Get(b"/agent/k")])
    etcd_with_users.members[0].pause()
    store._calls._token.forget()  # the next call requests a token, which etcd does not answer
    reading = asyncio.create_task(store.read([Get(b"/agent/k")]))
    writing = asyncio.create_task(store.commit([], [Put(b"/agent/k", b"")]))
    for _ in range(100):
        await asyncio.sleep(0)

    await store.close()

    with pytest.raises(StoreUnavailable):
        await reading
    with pytest.raises(StoreUnavailable):  # the write itself was not sent
        await writing


async def test_writes_succeed_after_users_are_added(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))
    # After each change of users, etcd refuses all older tokens.
    for number in range(3):
        etcd_with_users.etcdctl(AS_ROOT, "user", "add", f"other{number}:x")
        committed = await store.commit([], [Put(b"/agent/k", b"")])

        assert committed.succeeded


async def test_a_wrong_password_is_refused(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users, password="guess"))

    with pytest.raises(StoreRejected):
        await store.commit([], [Put(b"/agent/k", b"")])
    with pytest.raises(StoreRejected):
        await store.read([Get(b"/agent/k")])
    with pytest.raises(StoreRejected):
        await anext(store.watch([(b"/agent/", b"/agent0")], after=1))


async def test_a_client_without_a_user_is_refused(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(etcd_with_users.endpoints))

    with pytest.raises(StoreRejected):
        await store.commit([], [Put(b"/agent/k", b"")])
    with pytest.raises(StoreRejected):
        await store.read([Get(b"/agent/k")])
    with pytest.raises(StoreRejected):
        await anext(store.watch([(b"/agent/", b"/agent0")], after=1))


async def test_keys_outside_the_role_are_refused_and_nothing_is_written(
    etcd_with_users: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(agent_settings(etcd_with_users))

    with pytest.raises(StoreRejected):
        await store.commit([], [Put(b"/agent/k", b""), Put(b"/other/k", b"")])
    with pytest.raises(StoreRejected):
        await store.read([Get(b"/other/k")])
    with pytest.raises(StoreRejected):
        await anext(store.watch([(b"/agent/", b"/agent0"), (b"/other/", b"/other0")], after=1))

    assert (await store.read([Get(b"/agent/k")])).ranges[0].count == 0


def test_settings_do_not_show_the_password() -> None:
    settings = EtcdSettings(("localhost:2379",), user="agent", password="hunter2")

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
    assert "hunter2" not in f"{settings}"
