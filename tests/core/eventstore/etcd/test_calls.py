"""An observer receives every call of the store once, with its outcome."""

from __future__ import annotations

import pytest

from core.errors import StoreRejected, StoreUnavailable
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Get, Put
from tests.support.etcd import EtcdCluster, free_ports

pytestmark = pytest.mark.etcd


class CallRecorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        self.calls.append((method, outcome))
        self.seconds.append(seconds)


async def test_every_call_is_reported_once_with_its_outcome(one_member_etcd: EtcdCluster) -> None:
    recorder = CallRecorder()
    store = EtcdStore(EtcdSettings(one_member_etcd.endpoints), recorder)

    await store.commit([], [Put(b"k", b"")])
    await store.read([Get(b"k")])
    await store.read([Get(b"k"), Get(b"l")])
    with pytest.raises(StoreRejected):
        await store.commit([], [Put(b"k", b"", lease=99)])
    await store.revoke_lease(await store.grant_lease(60))
    await store.close()

    assert recorder.calls == [
        ("txn", "ok"),
        ("range", "ok"),
        ("txn", "ok"),  # a read of two keys
        ("txn", "LeaseGone"),
        ("grant", "ok"),
        ("revoke", "ok"),
    ]
    assert all(seconds > 0 for seconds in recorder.seconds)


async def test_a_retried_read_is_reported_once() -> None:
    recorder = CallRecorder()
    unused = f"127.0.0.1:{free_ports(1)[0]}"
    settings = EtcdSettings((unused,), read_attempt_s=0.1, read_deadline_s=0.3)
    store = EtcdStore(settings, recorder)

    with pytest.raises(StoreUnavailable):
        await store.read([Get(b"k")])
    await store.close()

    assert recorder.calls == [("range", "StoreUnavailable")]
