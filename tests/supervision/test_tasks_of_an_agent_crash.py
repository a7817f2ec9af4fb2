"""An agent reports each crashed task in its readiness and restarts the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.allocation.provider_settings import ProviderSettings
from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.domain.slots import DeviceRules, SubEniRule
from core.eventstore.memory_store import MemoryStore
from core.process.supervision import BACKOFF_S_MIN
from core.settings.device_plugin import DeviceSettings
from core.settings.sriov import SriovSettings
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.settings.agent_settings import Settings
from tests.supervision.crashing_supervisor import CrashingSupervisor, ManualClock
from tests.supervision.task_names import AGENT_TASKS
from tests.support.agent_harness import running
from tests.support.deadlines import until
from tests.support.kubernetes import ApiServer


def with_all_features(settings: Settings, server: ApiServer, directory: Path) -> Settings:
    """Enable all features, with settings that need no kubelet, NIC or control group."""
    return settings._replace(
        kubeconfig=str(server.kubeconfig),
        metrics_enabled=True,
        rdma_metrics_enabled=True,
        provider=ProviderSettings("http://127.0.0.1:1"),
        devices=DeviceSettings(DeviceRules(sub_eni=(SubEniRule(slots=2),)), directory),
        sriov=SriovSettings(kubelet=directory),
        roce_qos=(RoceQosRule(RoceQos()),),
        sysfs=directory / "sys",
        cluster_ip=ClusterIpSettings(
            enabled=True,
            cgroup=str(directory / "pods"),
            bpffs=str(directory / "bpf"),
            host_network=True,
        ),
    )


async def test_each_crashed_task_of_an_agent_is_reported_and_restarted(
    server_with_crds: ApiServer,
    settings: Settings,
    short_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    supervisor = CrashingSupervisor(clock)
    settings = with_all_features(settings, server_with_crds, short_path)
    cluster = await connect_cluster(settings, supervisor)
    assert cluster is not None
    parts_of_agent = {
        "facts": cluster.facts,
        "networks": cluster.networks,
        "coordinator": cluster.coordinator,
        "services": cluster.services,
        "supervisor": supervisor,
        "sriov": cluster.sriov,
    }
    async with running(settings, MemoryStore(), **parts_of_agent) as node:
        health = node.process.parts.health
        await until(lambda: not any(task.fault for task in supervisor.health()))
        names = [task.name for task in supervisor.health()]
        for name in names:
            supervisor.crash(name)
            await until(lambda name=name: supervisor.start_counts[name] == 2)  # type: ignore[misc]
            fault = await health.readiness_fault()
            assert f"task {name} ended: ZeroDivisionError: a bug of {name}" in str(fault)
            assert await health.probe_fault() is None, "expected an agent that still serves calls"
            clock.now_s += 2 * BACKOFF_S_MIN
            await until(lambda name=name: dict(supervisor.health())[name] is None)  # type: ignore[misc]
        assert await health.readiness_fault() is None
        # This call waits until the restarted configuration view is up to date.
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await cluster.close()

    assert set(names) == set(AGENT_TASKS)
    assert caplog.text.count("restarting it in 0.1 s") == len(names)
    assert supervisor.restarts == len(names)
