"""Probes and metrics of the jobs that a controller hosts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.controller_process import WAIT_S_MAX, ControllerProcess
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, pod, pool

pytestmark = pytest.mark.etcd

# In metric names, "news" means changes of Pods.
METRICS = (
    "orbweaver_reclaim_scan_age_seconds",
    "orbweaver_reclaim_scan_failed",
    "orbweaver_reclaim_paused",
    "orbweaver_reclaim_kept_endpoints",
    "orbweaver_reclaim_failed_steps",
    "orbweaver_reclaim_news_total",
    "orbweaver_reclaim_failures_total",
    "orbweaver_workflow_open_executions",
    "spiderpool_ip_gc_counts_total",
    "spiderpool_ipam_release_update_ippool_conflict_counts_total",
    "spiderpool_ip_gc_failure_counts_total",
    "workflow_completed_total",
)
WEB = RecordDefined("Pod", "shop", "web-0")


async def test_a_deleted_pods_address_is_reclaimed_without_a_del(
    etcd: EtcdCluster, cluster_name: str, tmp_path: Path
) -> None:
    store = EtcdStore(EtcdSettings(etcd.endpoints))
    async with NodeHarness(store, cluster=cluster_name) as node:
        await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
        await node.apply(ApplyRecord(WEB))
        await node.add(pod("web-0"))
        with ControllerProcess("c-1", etcd.endpoints[0], node.keys.cluster, tmp_path) as controller:
            await controller.until_ready()
            _, ready = await asyncio.to_thread(controller.get, controller.health_port, "/readyz")
            await controller.until_metric("orbweaver_leading", 1)
            await node.apply(DeleteRecord("Pod", "shop", "web-0"))  # no DEL follows

            await controller.until_metric("orbweaver_claims", 0)
            await controller.until_metric("orbweaver_reclaim_addresses_total", 1)
            await until_metrics_exist(controller)

    assert "[+]jobs ok" in ready
    assert "[+]news ok" in ready
    await store.close()


async def until_metrics_exist(controller: ControllerProcess) -> None:
    async def missing_metrics() -> set[str]:
        _, scraped = await asyncio.to_thread(controller.get, controller.metrics_port, "/metrics")
        return {name for name in METRICS if f"\n{name}{{" not in scraped}

    deadline_s = time.monotonic() + WAIT_S_MAX
    while names := await missing_metrics():
        assert time.monotonic() < deadline_s, names
        await asyncio.sleep(0.1)
