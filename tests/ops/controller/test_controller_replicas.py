"""Controllers on a real etcd: one leads, and another takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplySubnet
from core.domain.model import Subnet
from core.eventstore.election import read_leader
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Get
from core.projections.publisher import CHECKPOINT_CODEC, CHECKPOINT_NAME
from tests.support.controller_process import ControllerProcess
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, pod, pool

pytestmark = pytest.mark.etcd


@pytest.fixture
async def node(etcd: EtcdCluster, cluster_name: str) -> NodeHarness:
    return NodeHarness(EtcdStore(EtcdSettings(etcd.endpoints)), cluster=cluster_name)


async def checkpoint_covers_the_log(node: NodeHarness) -> bool:
    checkpoints = (await node.store.read([Get(node.keys.meta(CHECKPOINT_NAME))])).ranges[0].kvs
    newest = max(event.position for event in await node.log())
    return CHECKPOINT_CODEC.decode(checkpoints[0].value).position >= newest


async def test_another_replica_takes_over_when_the_leader_is_killed(
    etcd: EtcdCluster, node: NodeHarness, tmp_path: Path
) -> None:
    endpoint, cluster = etcd.endpoints[0], node.keys.cluster
    with (
        ControllerProcess("c-1", endpoint, cluster, tmp_path) as controller_1,
        ControllerProcess("c-2", endpoint, cluster, tmp_path) as controller_2,
    ):
        async with node:
            await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
            await node.add(pod("web-0"))
            await controller_1.until_ready()
            await controller_2.until_ready()
            leader_and_epoch = await read_leader(node.store, node.keys, "controller")
            assert leader_and_epoch is not None
            leader, epoch = leader_and_epoch
            leading_controller, standby_controller = (
                (controller_1, controller_2)
                if leader.name == "c-1"
                else (controller_2, controller_1)
            )
            await leading_controller.until_metric("orbweaver_checkpoints_published_total", 1)

            leading_controller.kill()
            await node.add(pod("web-1"))
            await standby_controller.until_metric("orbweaver_leading", 1)
            await standby_controller.until_metric("orbweaver_projection_lag_events", 0)

            leader_and_epoch = await read_leader(node.store, node.keys, "controller")
            assert leader_and_epoch is not None
            new_leader, new_epoch = leader_and_epoch
            assert new_leader.name == standby_controller.name
            assert new_epoch > epoch
            await standby_controller.until_metric("orbweaver_checkpoints_published_total", 1)
            assert await checkpoint_covers_the_log(node)
        await node.store.close()


async def test_a_leader_gives_up_its_lease_on_sigterm(
    etcd: EtcdCluster, node: NodeHarness, tmp_path: Path
) -> None:
    endpoint, cluster = etcd.endpoints[0], node.keys.cluster
    with ControllerProcess("c-1", endpoint, cluster, tmp_path) as controller:
        await controller.until_metric("orbweaver_leading", 1)

        code = controller.terminate()

    assert code == 0
    assert await read_leader(node.store, node.keys, "controller") is None
    await node.store.close()


async def test_probes_and_metrics_match_the_state(
    etcd: EtcdCluster, node: NodeHarness, tmp_path: Path
) -> None:
    endpoint, cluster = etcd.endpoints[0], node.keys.cluster
    with ControllerProcess("c-1", endpoint, cluster, tmp_path) as controller:
        async with node:
            await node.apply(pool("blue", "10.6.0.10-10.6.0.19"), pool("green", "10.6.1.1"))
            wide_subnet = Subnet("wide", 4, "10.6.0.0/16", ("10.6.0.0-10.6.2.255",))
            await node.apply(ApplySubnet(wide_subnet))
            await node.add(pod("web-0"))
            body = await controller.until_ready()
            assert body.splitlines() == [
                "[+]running ok",
                "[+]etcd ok",
                "[+]projection ok",
                "[+]leader ok",
                "[+]jobs ok",
                "[+]news ok",
                "[+]task/projector ok",
                "[+]task/observer ok",
                "[+]task/election ok",
                "[+]task/workflow-worker ok",
                "[+]task/configuration-view ok",
                "[+]task/publisher ok",
                "[+]task/execution-starter ok",
                "[+]task/forecaster ok",
                "[+]task/pod-listener ok",
                "[+]task/pool-dispatcher ok",
                "readyz check passed",
            ]
            assert controller.get(controller.health_port, "/livez")[0] == 200
            assert controller.get(controller.health_port, "/v1/runtime/readiness")[0] == 200
            await controller.until_metric("spiderpool_total_ippool_counts", 2)
            await controller.until_metric("spiderpool_total_subnet_counts", 1)
            await controller.until_metric("orbweaver_claims", 1)
            _, text = controller.get(controller.metrics_port, "/metrics")
        await node.store.close()

    assert 'spiderpool_debug_ippool_total_ip_counts{SpiderIPPool="blue"' in text
    for name in ("total_ip", "available_ip", "ippool"):
        assert f'spiderpool_debug_subnet_{name}_counts{{SpiderSubnet="wide"' in text
    assert 'pool="blue",state="free"' in text
    for name in ("projection_lag_seconds", "projection_rebuilds_total", "log_live_segments"):
        assert f"\norbweaver_{name}{{" in text


async def test_a_controller_survives_a_crash_and_restart_of_etcd(
    cluster_name: str, tmp_path: Path
) -> None:
    with EtcdCluster(tmp_path / "etcd") as etcd:
        node = NodeHarness(EtcdStore(EtcdSettings(etcd.endpoints)), cluster=cluster_name)
        with ControllerProcess("c-1", etcd.endpoints[0], cluster_name, tmp_path) as controller:
            async with node:
                await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
                await controller.until_metric("orbweaver_checkpoints_published_total", 1)
                (member,) = etcd.members
                member.kill()
                etcd.restart(member)
                await node.add(pod("web-0"))
                await controller.until_metric("orbweaver_claims", 1)
                await controller.until_metric("orbweaver_checkpoints_published_total", 2)
                assert await checkpoint_covers_the_log(node)
                await controller.until_ready()
                await node.store.close()
