"""``orbctl archive`` frees space in a real etcd whose database is full of log segments.

A full etcd rejects puts, so the archiver first deletes the reserve, a large key.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.cursor import read_cursor
from core.archive.nospace import FullLogArchiver
from core.domain.configuration.commands import ApplyRecord
from core.domain.events import RecordDefined
from core.errors import OutcomeUnknown, StoreFull, StoreRejected
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.etcd.maintenance import EtcdMaintenance
from core.eventstore.full_etcd import make_reserve
from core.eventstore.keys import Keys
from core.eventstore.kv import Get
from nodeagent.cni_protocol.failures import TRY_AGAIN_LATER
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import attempts
from tests.support.etcd import EtcdCluster
from workflows.jobs.archive.activities import ArchiveActivities

pytestmark = pytest.mark.etcd

QUOTA_BYTES: Final = 8 << 20
EVENT_BYTES: Final = 50_000
FILE_BYTES: Final = 1 << 20


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    flags = [f"--quota-backend-bytes={QUOTA_BYTES}"]
    with EtcdCluster(tmp_path / "etcd", size=3, flags=flags) as cluster:
        yield cluster


@pytest.fixture
async def store(etcd: EtcdCluster) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(etcd.endpoints))
    yield store
    await store.close()


async def fill_etcd(agent: AgentHarness, store: EtcdStore) -> None:
    """Fill etcd with log segments; compact old revisions."""
    for _ in attempts():
        texts = {"text": secrets.token_hex(EVENT_BYTES // 2)}
        try:
            await agent.apply(ApplyRecord(RecordDefined("Node", "", "large", {}, texts)))
            await store.compact((await store.read([Get(b"/none")])).revision)
        except (StoreFull, OutcomeUnknown):
            return
    raise AssertionError("etcd is not full")


def orbctl(etcd: EtcdCluster, agent: AgentHarness, archive: Path, *arguments: str) -> str:
    variables = {
        "PATH": os.environ["PATH"],
        "ORBWEAVER_ETCD_ENDPOINTS": ",".join(etcd.endpoints),
        "ORBWEAVER_CLUSTER": agent.keys.cluster,
        "ORBWEAVER_ARCHIVE_DIR": str(archive),
    }
    command = [sys.executable, "-m", "ops.cli.main", *arguments]
    completed = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


async def test_pods_get_addresses_again_after_one_orbctl_archive(
    etcd: EtcdCluster, store: EtcdStore, settings: Settings, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await node.add("web-0")
        await make_reserve(store, node.keys)
        await fill_etcd(node, store)
        refused = await node.call("ADD", "web-1")

        output = orbctl(etcd, node, archive, "archive")

        assert refused.error["code"] == TRY_AGAIN_LATER
        assert "sealed into 1 file" in output
        assert await store.alarms() == ()
        assert await node.add("web-1")
        await node.delete("web-0")
        assert "reserve" in await meta_names(store, node.keys)
        orbctl(etcd, node, archive, "verify")


async def meta_names(store: EtcdStore, keys: Keys) -> set[str]:
    meta = (await store.read([Get(*keys.range_of("meta"), keys_only=True)])).ranges[0]
    return {kv.key.rpartition(b"/")[2].decode() for kv in meta.kvs}


async def test_a_full_log_is_sealed_into_several_files(
    etcd: EtcdCluster, store: EtcdStore, settings: Settings, tmp_path: Path
) -> None:
    files = LocalFiles(tmp_path / "archive")
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await make_reserve(store, node.keys)
        await fill_etcd(node, store)
        maintenance = EtcdMaintenance(EtcdSettings(etcd.endpoints))
        archiver = FullLogArchiver(store, node.keys, files, maintenance, file_bytes_max=FILE_BYTES)

        result = await archiver.seal()

        assert result.is_defragmented
        assert result.sealed.files == (await read_cursor(store, node.keys)).cursor.files > 2
        events_per_file_min = FILE_BYTES // (2 * EVENT_BYTES)
        assert result.sealed.events >= result.sealed.files * events_per_file_min
        assert await store.alarms() == ()
        assert await node.add("web-0")
        orbctl(etcd, node, tmp_path / "archive", "verify")


class MaintenanceWithoutDefragmentation:
    """EtcdMaintenance of a user who may not defragment."""

    def __init__(self, maintenance: EtcdMaintenance) -> None:
        self.disarm = maintenance.disarm

    async def defragment(self) -> None:
        raise StoreRejected("etcd refuses the request: etcdserver: permission denied")


async def test_a_user_who_may_not_defragment_can_seal_after_etcdctl_defrag(
    etcd: EtcdCluster, store: EtcdStore, settings: Settings, tmp_path: Path
) -> None:
    files = LocalFiles(tmp_path / "archive")
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
        await make_reserve(store, node.keys)
        await fill_etcd(node, store)
        maintenance = MaintenanceWithoutDefragmentation(
            EtcdMaintenance(EtcdSettings(etcd.endpoints))
        )
        with pytest.raises(StoreFull) as full:
            await FullLogArchiver(store, node.keys, files, maintenance).seal()
        etcd.etcdctl("defrag")

        result = await FullLogArchiver(store, node.keys, files, maintenance).seal()

        assert "Secret orbweaver-etcd-root" in full.value.remedy
        assert not result.is_defragmented
        assert await store.alarms() == ()
        assert await node.add("web-0")
        orbctl(etcd, node, tmp_path / "archive", "verify")


async def test_the_archive_job_creates_the_reserve(store: EtcdStore, tmp_path: Path) -> None:
    keys = Keys("default")
    activities = ArchiveActivities(store, keys, LocalFiles(tmp_path / "archive"))

    await activities.check()
    await activities.check()  # finds the reserve

    assert await meta_names(store, keys) == {"reserve"}
