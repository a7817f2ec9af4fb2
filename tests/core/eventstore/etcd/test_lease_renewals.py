"""Renewals of leases share one stream, which is reopened when it breaks."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import StoreUnavailable
from core.eventstore.etcd import EtcdSettings
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd

STREAMS_METRIC = (
    'grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",'
    'grpc_type="bidi_stream"}'
)
TTL_S = 60


async def test_many_renewals_of_several_leases_open_one_stream(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    leases = [await store.grant_lease(ttl_s) for ttl_s in (TTL_S, 2 * TTL_S, 3 * TTL_S)]

    for _ in range(3):
        left_s = await asyncio.gather(*map(store.keep_lease, leases))

        assert left_s == [TTL_S, 2 * TTL_S, 3 * TTL_S]
    assert one_member_etcd.members[0].metric(STREAMS_METRIC) == 1


async def test_a_renewal_never_gets_the_answer_of_a_cancelled_renewal(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    leases = [await store.grant_lease(ttl_s) for ttl_s in (TTL_S, 2 * TTL_S)]
    await store.keep_lease(leases[0])

    for loop_passes in range(8):
        cancelled_renewal = asyncio.ensure_future(store.keep_lease(leases[0]))
        for _ in range(loop_passes):
            await asyncio.sleep(0)
        cancelled_renewal.cancel()

        assert await store.keep_lease(leases[1]) == 2 * TTL_S


async def test_renewals_succeed_after_a_restart_of_etcd(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    lease = await store.grant_lease(TTL_S)
    await store.keep_lease(lease)

    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])

    assert await store.keep_lease(lease) == TTL_S


async def test_a_renewal_fails_at_its_deadline_when_the_member_hangs(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    settings = EtcdSettings(one_member_etcd.endpoints, read_attempt_s=0.2, read_deadline_s=0.5)
    store = open_store(settings)
    lease = await store.grant_lease(TTL_S)
    await store.keep_lease(lease)

    one_member_etcd.members[0].pause()
    renewals = asyncio.gather(*map(store.keep_lease, (lease, lease)), return_exceptions=True)
    errors = await asyncio.wait_for(renewals, 60)
    one_member_etcd.members[0].resume()

    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert await store.keep_lease(lease) == TTL_S
