"""Agents and controllers report that the database of a real etcd is full."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.errors import OutcomeUnknown, StoreFull
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.etcd.calls import CallObserver
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Get, Put
from core.projections.projector import Projector
from nodeagent.settings.agent_settings import Settings
from ops.controller.observer import ControllerObserver
from ops.settings import CONTROLLER_ROLE
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import attempts
from tests.support.etcd import EtcdCluster
from tests.support.http_caller import over_tcp

pytestmark = pytest.mark.etcd

QUOTA_BYTES = 4 << 20
CHUNK_BYTES = 200_000
WRITES_PER_CALL_MAX = 3
"""The limit for one ADD or DEL."""


class WriteCounter(CallObserver):
    """Counts requests for transactions and for leases."""

    def __init__(self) -> None:
        self.count = 0

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        self.count += method in ("txn", "grant")


@pytest.fixture
def small_etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path / "etcd", flags=[f"--quota-backend-bytes={QUOTA_BYTES}"]) as cluster:
        yield cluster


@pytest.fixture
def writes() -> WriteCounter:
    return WriteCounter()


@pytest.fixture
async def store(small_etcd: EtcdCluster, writes: WriteCounter) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(small_etcd.endpoints), writes)
    yield store
    await store.close()


async def fill_etcd(store: EtcdStore) -> None:
    """Write until etcd is full: then an unguarded write raises OutcomeUnknown."""
    for number in attempts():
        try:
            await store.commit([], [Put(b"/filler/%d" % number, bytes(CHUNK_BYTES))])
        except OutcomeUnknown:
            return
    raise AssertionError("etcd does not reach its quota")


async def test_a_guarded_write_raises_store_full_if_etcd_is_full(
    store: EtcdStore,
) -> None:
    assert await store.alarms() == ()
    await fill_etcd(store)

    with pytest.raises(StoreFull, match="etcd's database is full") as full:
        await store.commit([Absent(b"/k")], [Put(b"/k", b"v")])

    assert (await store.read([Get(b"/k")])).ranges[0].count == 0
    assert await store.alarms() == ("NOSPACE",)
    assert "orbctl archive" in full.value.remedy


async def test_grant_lease_is_not_retried_if_etcd_is_full(
    store: EtcdStore, writes: WriteCounter
) -> None:
    await fill_etcd(store)
    before = writes.count

    with pytest.raises(StoreFull):
        await store.grant_lease(5)

    assert writes.count == before + 1


async def test_an_agent_reports_a_full_etcd_and_answers_without_retries(
    store: EtcdStore, settings: Settings, writes: WriteCounter
) -> None:
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await node.add("web-0")
        await fill_etcd(store)
        before = writes.count

        add = (await node.call("ADD", "web-1")).error
        delete = (await node.call("DEL", "web-0")).error
        writes_of_two_calls = writes.count - before
        status = (await node.call("STATUS")).error
        ready = await readiness(node)

    for error in (add, delete, status):
        assert "etcd's database is full (alarm NOSPACE)" in error["msg"]
    assert "orbctl archive" in status["details"]
    # CNI error codes: 11 is "try again later", 50 is "plugin not available".
    assert (add["code"], delete["code"], status["code"]) == (11, 11, 50)
    assert writes_of_two_calls <= 2 * WRITES_PER_CALL_MAX
    assert "etcd's database is full" in ready


async def readiness(agent: AgentHarness) -> str:
    """The body of the agent's failed readiness check."""
    assert agent.process.health_port is not None
    reply = await over_tcp(agent.process.health_port.port, "/readyz")
    assert reply.status == 500
    return reply.body.decode()


async def test_an_agent_serves_again_once_etcd_has_free_space(
    small_etcd: EtcdCluster, store: EtcdStore, settings: Settings
) -> None:
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await fill_etcd(store)
        refused = await node.call("ADD", "web-1")
        free_space(small_etcd)

        assert await node.add("web-1")
        assert await store.alarms() == ()
        await node.delete("web-1")
        assert await node.claims() == {}

    assert refused.status == 1


def free_space(etcd: EtcdCluster) -> None:
    """Run the steps of docs/how-to/recover-a-full-etcd.md."""

    def etcdctl(*arguments: str) -> str:
        command = ["etcdctl", f"--endpoints={etcd.endpoints[0]}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    etcdctl("del", "--prefix", "/filler/")
    revision = etcdctl("endpoint", "status", "-w", "json").partition('"revision":')[2]
    etcdctl("compact", revision.partition(",")[0])
    etcdctl("defrag")
    etcdctl("alarm", "disarm")


async def test_the_fault_of_a_controller_is_store_full_if_etcd_is_full(store: EtcdStore) -> None:
    keys = Keys("full")
    observer = ControllerObserver(store, keys, Projector(store, keys), CONTROLLER_ROLE)
    await observer.observe()
    fault_before = observer.fault
    await fill_etcd(store)

    await observer.observe()

    assert fault_before is None
    assert isinstance(observer.fault, StoreFull)
