"""The coordinator settings of an ADD, with and without a SpiderCoordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import NotReady
from core.kubernetes.api_client import Object
from core.manifests.kinds.coordinators import DetectOptions
from nodeagent.cni_protocol.failures import TRY_AGAIN_LATER, failure_of
from nodeagent.coordinator.settings import UnparsedRoute, UnparsedSettings, read_settings
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.kubernetes.coordinator_watch import KubernetesCoordinator, cached_coordinator
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.objects import coordinator, create, path_of, replace
from tests.kubernetes.translator_harness import until
from tests.support.etcd import free_ports
from tests.support.kubernetes import MERGE_PATCH, ApiServer

pytestmark = pytest.mark.simulated

KIND = "SpiderCoordinator"
SYNCED_STATUS = {
    "phase": "Synced",
    "overlayPodCIDR": ["10.244.0.0/16"],
    "serviceCIDR": ["10.96.0.0/16", "fd00:96::/112"],
}
ALL_FIELDS: dict[str, Any] = {
    "mode": "underlay",
    "podCIDRType": "cluster",
    "hijackCIDR": ["169.254.0.0/16"],
    "policyRoutes": [{"dst": "192.0.2.0/24", "gw": "10.6.0.1"}],
    "podMACPrefix": "0a:1b",
    "tunePodRoutes": False,
    "podDefaultRouteNIC": "net1",
    "hostRuleTable": 600,
    "podRPFilter": 2,
    "txQueueLen": 1000,
    "vethLinkAddress": "169.254.100.1",
    "vethMTU": 1400,
    "detectIPConflict": True,
    "hostRPFilter": 1,
    "detectOptions": {"retries": 2, "interval": "20ms", "timeout": "1s"},
}
UNREACHABLE_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{token: none}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
current-context: here
"""
SETTINGS_OF_CONF_YML = read_settings({"hijackFurtherNics": False, "vethMTU": 9000})


@pytest.fixture
async def source(server: ApiServer) -> AsyncIterator[KubernetesCoordinator]:
    """The agent's source of coordinator settings; it has listed the SpiderCoordinators."""
    settings = Settings(
        "node-1", kubeconfig=str(server.kubeconfig), coordinator=SETTINGS_OF_CONF_YML
    )
    cluster = await connect_cluster(settings)
    assert cluster is not None
    assert cluster.coordinator is not None
    async with asyncio.timeout(30):
        await cluster.coordinator.coordinators.listed.wait()
    yield cluster.coordinator
    await cluster.close()


async def write_status(server: ApiServer, **status: object) -> None:
    path = f"{path_of(KIND, 'default')}/status"
    body = {"status": status}
    answer = await asyncio.to_thread(server.request, "PATCH", path, body, content=MERGE_PATCH)
    assert answer.status == 200, answer.message


def settings_or_none(source: KubernetesCoordinator) -> UnparsedSettings | None:
    """The settings of the next ADD; None if the source refuses ADDs."""
    try:
        return source.current_settings()
    except NotReady:
        return None


async def until_settings(source: KubernetesCoordinator) -> UnparsedSettings:
    await until(lambda: settings_or_none(source) is not None)
    return source.current_settings()


async def test_every_field_of_a_synced_coordinator_becomes_a_setting_of_an_add(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    create(server, coordinator(**ALL_FIELDS))
    await write_status(server, **SYNCED_STATUS)

    assert await until_settings(source) == UnparsedSettings(
        mode="underlay",
        tune_pod_routes=False,
        pod_default_route_nic="net1",
        pod_default_cni_nic="eth0",
        pod_mac_prefix="0a:1b",
        overlay_pod_cidr=("10.244.0.0/16",),
        service_cidr=("10.96.0.0/16", "fd00:96::/112"),
        hijack_cidr=("169.254.0.0/16",),
        hijack_further_nics=False,
        policy_routes=(UnparsedRoute("192.0.2.0/24", "10.6.0.1"),),
        host_rule_table=600,
        pod_rp_filter=2,
        tx_queue_len=1000,
        veth_link_address="169.254.100.1",
        veth_mtu=1400,
        detect_ip_conflict=True,
        detect_gateway=False,
        rdma_isolation=False,
        host_rp_filter=1,
        detect_options=DetectOptions(2, "20ms", "1s"),
    )


async def test_conf_yml_sets_the_fields_that_the_coordinator_leaves_out(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    create(server, coordinator())
    await write_status(server, phase="Synced")

    assert (await until_settings(source)).veth_mtu == 9000
    assert (await until_settings(source)).hijack_further_nics is False


async def test_adds_are_refused_while_the_coordinator_is_not_synced(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    create(server, coordinator())
    await write_status(server, **SYNCED_STATUS)
    await until_settings(source)

    await write_status(server, phase="NotReady", reason="no source", serviceCIDR=[])
    await until(lambda: settings_or_none(source) is None)
    with pytest.raises(NotReady, match=r"^spidercoordinator: default no ready: no source "):
        source.current_settings()
    await write_status(server, **SYNCED_STATUS)

    assert (await until_settings(source)).service_cidr == ("10.96.0.0/16", "fd00:96::/112")


async def test_adds_are_refused_when_the_coordinator_or_its_status_is_missing(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    with pytest.raises(NotReady, match="coordinator config not found: there is no"):
        source.current_settings()
    create(server, coordinator("other"))
    create(server, coordinator())
    await until(lambda: ("", "default") in source.coordinators.objects)

    with pytest.raises(NotReady, match="default no ready: its phase is ''"):
        source.current_settings()


async def test_a_changed_coordinator_changes_the_settings_of_the_next_add(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    create(server, coordinator())
    await write_status(server, **SYNCED_STATUS)
    before = await until_settings(source)
    replace(server, coordinator(podMACPrefix="0a:1c"))

    await until(lambda: source.current_settings() != before)

    assert source.current_settings().pod_mac_prefix == "0a:1c"


@pytest.mark.simulated(lacks="kmock does not simulate a server that stops")
async def test_the_cached_coordinator_is_used_while_the_api_server_is_unreachable(
    source: KubernetesCoordinator, server: ApiServer
) -> None:
    create(server, coordinator())
    await write_status(server, **SYNCED_STATUS)
    before = await until_settings(source)

    await asyncio.to_thread(server.kill)
    try:
        await until(lambda: source.coordinators.fault)
        await source.load()  # what an agent does before each ADD
        assert source.current_settings() == before
    finally:
        await asyncio.to_thread(server.start)


async def test_an_add_is_refused_if_coordinators_were_never_listed(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(UNREACHABLE_KUBECONFIG.format(port=port))
    cluster = await connect_cluster(Settings("node-1", kubeconfig=str(kubeconfig)))
    assert cluster is not None
    assert cluster.coordinator is not None

    await cluster.coordinator.load()  # what an agent does before each ADD
    with pytest.raises(NotReady, match="SpiderCoordinators cannot be listed: ") as refused:
        cluster.coordinator.current_settings()
    await cluster.close()

    assert failure_of(refused.value).code == TRY_AGAIN_LATER


async def test_an_agent_without_a_coordinator_name_watches_no_coordinators(
    server: ApiServer,
) -> None:
    cluster = await connect_cluster(
        Settings("node-1", kubeconfig=str(server.kubeconfig), coordinator_name="")
    )
    assert cluster is not None
    await cluster.close()

    assert cluster.coordinator is None


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"status": {"phase": 7}}, "Expected `str`"),
        ({"status": {"phase": "Synced", "serviceCIDR": ["nonsense"]}}, "serviceCIDR"),
        ({"status": {"phase": "Synced"}, "spec": "text"}, "Expected `object`"),
        ({"status": {"phase": "Synced"}, "spec": {"hostRuleTable": 254}}, "hostRuleTable: 254"),
        ({"status": {"phase": "Synced"}, "spec": {"vethMTU": "large"}}, "vethMTU"),
        ({"status": ["Synced"]}, "Expected `object`"),
    ],
)
def test_the_fault_of_an_invalid_coordinator_names_the_field_or_the_expected_type(
    changed: Object, fault: str
) -> None:
    cached = cached_coordinator({"metadata": {"name": "default"}, "spec": {}} | changed)

    assert fault in cached.fault
