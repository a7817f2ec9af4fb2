"""The event log records each version of a SpiderCoordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.replay import open_log
from core.audit.comparison import compare_states
from core.audit.history import read_history
from core.audit.history_entries import History, parse_subject
from core.audit.state_at import as_of_position
from core.kubernetes.api_client import Object
from core.manifests.manifest_writer import to_manifest
from ops.kubernetes.settings import CoordinatorReconcilerSettings, KubernetesSettings
from tests.kubernetes.objects import coordinator, create, get, path_of, replace
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import Answer, ApiServer

KIND = "SpiderCoordinator"


@pytest.fixture
def settings(server: ApiServer, tmp_path: Path) -> KubernetesSettings:
    reconciler = CoordinatorReconcilerSettings(cni_directory=tmp_path)
    return KubernetesSettings(str(server.kubeconfig), coordinator=reconciler)


async def test_each_version_of_a_coordinator_is_in_its_history(
    server: ApiServer, settings: KubernetesSettings, tmp_path: Path
) -> None:
    async with TranslatorHarness(server, settings) as cluster:
        await _write(create, server, coordinator(podCIDRType="none", hostRPFilter=1))
        await cluster.until(lambda: _recorded_fields(cluster).get("phase") == "Synced")
        position_when_synced = cluster.ledger.position
        await _write(replace, server, coordinator(podCIDRType="none", hijackCIDR=["10.9.0.0/16"]))
        await cluster.until(
            lambda: _recorded_fields(cluster).get("hijackCIDR") == '["10.9.0.0/16"]'
        )
        position_when_changed = cluster.ledger.position
        await asyncio.to_thread(server.request, "DELETE", path_of(KIND, "default"))
        await cluster.until(lambda: not cluster.ledger.records)

        log_history = await _history(cluster, tmp_path)
        kinds = [entry.kind for entry in log_history.entries]
        assert kinds[0] == "defined"
        assert kinds[-1] == "deleted"
        assert set(kinds[1:-1]) == {"changed"}
        texts = [entry.text for entry in log_history.entries]
        assert "hostRPFilter: 1" in texts[0]
        assert "phase: none -> Synced" in " ".join(texts)
        assert 'hostRPFilter: 1 -> none; hijackCIDR: none -> ["10.9.0.0/16"]' in " ".join(texts)
        assert {entry.began.actor for entry in log_history.entries} == {
            "orbweaver-controller/kubernetes"
        }

        view = await open_log(cluster.store, cluster.keys, LocalFiles(tmp_path))
        before = await as_of_position(view, position_when_synced)
        after = await as_of_position(view, position_when_changed)
        (change,) = compare_states(before, after)
        assert (change.change, change.kind, change.name) == ("changed", "record", f"{KIND}/default")
        manifest: Object = dict(to_manifest(after.records[KIND, "", "default"]))
        assert manifest["spec"]["hijackCIDR"] == ["10.9.0.0/16"]
        assert manifest["status"]["phase"] == "Synced"


async def test_a_coordinator_deleted_while_no_controller_ran_is_recorded_as_deleted(
    server: ApiServer, settings: KubernetesSettings, tmp_path: Path
) -> None:
    async with TranslatorHarness(server, settings) as cluster:
        await _write(create, server, coordinator(podCIDRType="none"))
        await cluster.until(lambda: _recorded_fields(cluster).get("phase") == "Synced")
        await cluster.stop_translator()
        await asyncio.to_thread(server.request, "DELETE", path_of(KIND, "default"))
        cluster.start_translator()
        await cluster.until(lambda: cluster.projector.ready and not cluster.ledger.records)

        assert (await _history(cluster, tmp_path)).entries[-1].kind == "deleted"


async def test_a_coordinator_is_recorded_as_deleted_when_its_reconciler_is_disabled(
    server: ApiServer, settings: KubernetesSettings, tmp_path: Path
) -> None:
    async with TranslatorHarness(server, settings) as cluster:
        await _write(create, server, coordinator(podCIDRType="none"))
        await cluster.until(lambda: _recorded_fields(cluster).get("phase") == "Synced")
        await cluster.stop_translator()
        cluster.settings = settings._replace(coordinator=None)
        cluster.start_translator()
        await cluster.until(lambda: cluster.projector.ready and not cluster.ledger.records)

        assert (await _history(cluster, tmp_path)).entries[-1].kind == "deleted"
        # The SpiderCoordinator on the API server is not deleted.
        assert get(server, KIND, "default")["metadata"]["name"] == "default"


async def _write(
    write: Callable[[ApiServer, Object], Answer], server: ApiServer, body: Object
) -> None:
    answer = await asyncio.to_thread(write, server, body)
    assert answer.status in (200, 201), answer.message


def _recorded_fields(cluster: TranslatorHarness) -> dict[str, str]:
    """The coordinator's fields in the event log; {} if the log has no coordinator."""
    record = cluster.ledger.records.get((KIND, "", "default"))
    return record.coordinator.fields() if record and record.coordinator else {}


async def _history(cluster: TranslatorHarness, archive: Path) -> History:
    view = await open_log(cluster.store, cluster.keys, LocalFiles(archive))
    return await read_history(view, parse_subject("coordinator/default"))
