"""An agent finds a Pod's NICs on provider networks in SpiderMultusConfigs.

A network provider binds addresses of NICs on ``vlan`` networks with the ``vlanMode`` ``auto``. The
provider gets the MAC of the master, or of the bond if there are several masters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.allocation.provider_settings import ProviderSettings
from core.domain.provider.provider_nics import NicConfiguration
from core.domain.request_facts import PodFacts
from core.domain.selection.multus import DEFAULT_NETWORK, NETWORKS_ANNOTATION
from core.domain.selection.selection_request import SelectionSettings
from core.errors import NotReady
from core.eventstore.memory_store import MemoryStore
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.manifests.networks.nad_renderer import CR_NAME
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.kubernetes.multus_config_watch import KubernetesNetworks, mac_of
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.objects import create, network, path_of
from tests.kubernetes.translator_harness import until
from tests.kubernetes.workload_objects import cni_args_of, create_pod, delete_workloads
from tests.support.agent_harness import running
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from tests.workflows.jobs.provider.fake_provider import mac_of as chosen_mac
from tests.workflows.jobs.provider.with_agent.provider_harness import ProviderHarness, eventually
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH

AUTO = {"master": ["uplink"], "vlanMode": "auto"}
MACS = {"uplink": "0c:00:00:00:00:01", "bond7": "0c:00:00:00:00:07"}
"""Interface of the node -> its MAC."""

SELECTION = SelectionSettings(multus_cluster_network="default/auto", agent_namespace="kube-system")


def pod_with(**annotations: object) -> PodFacts:
    names = {"networks": NETWORKS_ANNOTATION, "default": DEFAULT_NETWORK}
    return PodFacts(
        "shop",
        "web",
        "uid",
        annotations={names[key]: str(text) for key, text in annotations.items()},
    )


@pytest.fixture
async def networks(server: ApiServer) -> AsyncIterator[KubernetesNetworks]:
    api = Api(await open_connection(str(server.kubeconfig)))
    networks = KubernetesNetworks(api, SELECTION, lambda link: MACS.get(link, ""))
    watch_task = asyncio.create_task(networks.run())
    async with asyncio.timeout(30):
        await networks.configs.listed.wait()
    yield networks
    watch_task.cancel()
    await asyncio.gather(watch_task, return_exceptions=True)
    await api.close()


async def create_networks(
    server: ApiServer, networks: KubernetesNetworks, *objects: dict[str, object]
) -> None:
    """Create networks, and wait until the agent's watch has received all of them."""
    for body in objects:
        answer = await asyncio.to_thread(create, server, body)
        assert answer.status == 201, answer.message
    await until(lambda: len(networks.configs.objects) == len(objects))


async def test_nics_have_the_type_and_vlan_mode_of_their_networks(
    server: ApiServer, networks: KubernetesNetworks
) -> None:
    await create_networks(
        server,
        networks,
        network("vlan", "auto", vlan=AUTO),
        network("vlan", "manual", vlan={"master": ["uplink"], "vlanID": 7}),
        network("macvlan", "lan", macvlan={"master": ["uplink"]}),
    )
    auto = ("vlan", "auto", MACS["uplink"])

    def nics_of(pod: PodFacts, *interfaces: str) -> list[NicConfiguration]:
        return list(networks.nics(pod, interfaces))

    # Without an annotation eth0 is on the cluster network of Multus.
    assert nics_of(pod_with(), "eth0") == [NicConfiguration("eth0", *auto)]
    assert nics_of(pod_with(default="default/lan"), "eth0") == [NicConfiguration("eth0", "macvlan")]
    several = pod_with(networks="default/lan, default/auto@fast, default/manual", default="x/y")
    assert nics_of(several, "eth0", "net1", "fast", "net3") == [
        NicConfiguration("net1", "macvlan"),
        NicConfiguration("fast", *auto),
        NicConfiguration("net3", "vlan", "manual"),
    ]


async def test_provider_nics_are_found_by_nad_name_and_have_the_mac_of_the_bond(
    server: ApiServer, networks: KubernetesNetworks
) -> None:
    bonded = network(
        "vlan", "auto", vlan=AUTO | {"master": ["a", "b"], "bond": {"name": "bond7", "mode": 1}}
    )
    bonded["metadata"]["annotations"] = {CR_NAME: "name-of-nad"}
    await create_networks(server, networks, bonded)
    # The name of the NAD differs from ``auto``, so the network of net1 is unknown.
    pod = pod_with(networks="default/auto, default/name-of-nad")

    assert networks.nics(pod, ("net1", "net2")) == (
        NicConfiguration("net2", "vlan", "auto", MACS["bond7"]),
    )


async def test_provider_nics_follow_changes_and_the_deletion_of_a_network(
    server: ApiServer, networks: KubernetesNetworks
) -> None:
    await create_networks(server, networks, network("vlan", "auto", vlan=AUTO))
    path = path_of("SpiderMultusConfig", "auto")
    manual = {"spec": {"vlan": {"vlanMode": "manual", "vlanID": 9}}}
    await asyncio.to_thread(server.request, "PATCH", path, manual, content=MERGE_PATCH)

    def vlan_modes() -> list[str]:
        return [nic.vlan_mode for nic in networks.nics(pod_with(), ("eth0",))]

    await until(lambda: vlan_modes() == ["manual"])
    await asyncio.to_thread(server.request, "DELETE", path)
    await until(lambda: not networks.configs.objects)

    assert networks.nics(pod_with(), ("eth0",)) == ()


async def test_nics_raises_not_ready_before_networks_are_listed(server: ApiServer) -> None:
    api = Api(await open_connection(str(server.kubeconfig)))
    networks = KubernetesNetworks(api, SELECTION)
    with pytest.raises(NotReady, match="unknown whether addresses of default/auto need"):
        networks.nics(pod_with(), ("eth0",))

    assert networks.nics(pod_with(), ("net1",)) == ()  # the Pod names no network for net1
    await api.close()


async def test_the_provider_binds_and_releases_the_address_of_a_pod_on_a_provider_network(
    server: ApiServer, settings: Settings
) -> None:
    """The master is the loopback device, which every host has."""
    delete_workloads(server)
    answer = create(server, network("vlan", "auto", vlan={"master": ["lo"], "vlanMode": "auto"}))
    assert answer.status == 201, answer.message
    pod = create_pod(server, "web-0", "node-1", annotations={DEFAULT_NETWORK: "default/auto"})
    async with FakeProvider() as provider:
        agent_settings = settings._replace(
            kubeconfig=str(server.kubeconfig), provider=ProviderSettings(provider.url)
        )
        cluster = await connect_cluster(agent_settings)
        assert cluster is not None
        assert cluster.networks is not None
        sources = {"facts": cluster.facts, "networks": cluster.networks}
        async with running(agent_settings, MemoryStore(), **sources) as node:
            await node.pool("lan", "10.6.0.0/16", "10.6.0.10-10.6.0.20")
            harness = ProviderHarness(node, provider)
            await harness.start_controller()
            await until(lambda: bool(cluster.networks and cluster.networks.configs.objects))
            (address,) = [
                cidr.partition("/")[0] for cidr in await node.add(CNI_ARGS=cni_args_of(pod))
            ]
            (nic,) = (await harness.workload_endpoint())["interfaces"]
            server.request("DELETE", "/api/v1/namespaces/shop/pods/web-0?gracePeriodSeconds=0")
            await node.delete(CNI_ARGS=cni_args_of(pod))
            await eventually(harness.everything_is_released)
            await harness.cleanup_stack.aclose()
        await cluster.close()
    delete_workloads(server)

    (allocate, bind, _), (release, _, _) = provider.calls
    assert (allocate, release) == (ALLOCATE_PATH, RELEASE_PATH)
    assert bind["podUID"] == pod["metadata"]["uid"]
    assert bind["iaasIPsAllocationRequest"][0]["parentNicMac"] == mac_of("lo")
    assert (nic["mac"], nic["vlan"]) == (chosen_mac(address), 100)
