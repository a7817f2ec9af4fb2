"""The bridge plugin calls the IPAM plugin, without the coordinator.

These are Spiderpool's scenarios S04 and S05; see docs/contributing/compatibility-datapath.md.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from core.domain.addresses.ip_address import parse_address, parse_range
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Route
from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from ops import installer
from ops.lab.programs import PLUGIN_DIRECTORIES
from tests.support.agent_harness import AgentHarness, running
from tests.support.network_harness import OUTSIDE_ADDRESSES, NetworkHarness, NetworkNode, batch

pytestmark = pytest.mark.netns

BRIDGE: Final = "cni0"
CNI_VERSION: Final = "0.3.0"  # as in 10-calico.conflist and 10-weave.conflist


class Scenario(NamedTuple):
    """A pool from Spiderpool's documents."""

    subnet: str
    ips: str
    address_count: int
    gateway: str


SCENARIOS: Final = {
    "Calico": Scenario("10.244.0.0/16", "10.244.100.0-10.244.200.1", 25_602, "10.244.0.1/16"),
    "Weave": Scenario("10.32.0.0/12", "10.32.0.100-10.32.50.200", 12_901, "10.32.0.1/12"),
}


class BridgedNode:
    """A node with an agent and a bridge that connects eth0 and the Pods."""

    def __init__(self, node: NetworkNode, agent: AgentHarness, plugins: Path) -> None:
        self.node = node
        self.agent = agent
        self.plugins = plugins
        batch(
            node.inside,
            f"link add {BRIDGE} type bridge mcast_snooping 0",
            f"link set {BRIDGE} up",
            f"link set eth0 master {BRIDGE}",
        )

    async def call_bridge_plugin(self, command: str, pod_name: str) -> dict[str, Any]:
        netns = f"/run/netns/{pod_name}" if Path(f"/run/netns/{pod_name}").exists() else ""
        variables = self.agent.environment(command, pod_name, CNI_NETNS=netns)
        socket_path = self.agent.process.settings.socket_path
        ipam = {"type": "spiderpool", "ipam_unix_socket_path": socket_path}
        conf = {"cniVersion": CNI_VERSION, "name": "k8s-pod-network", "type": "bridge"}
        process = await asyncio.to_thread(
            subprocess.run,
            self.node.inside.inside([str(self.plugins / "bridge")]),
            input=json.dumps(conf | {"bridge": BRIDGE, "ipam": ipam}),
            env=variables | {"CNI_PATH": str(self.plugins)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout
        return dict(json.loads(process.stdout)) if process.stdout else {}


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


@pytest.fixture
async def bridged_nodes(
    network: NetworkHarness, scenario: Scenario
) -> AsyncIterator[tuple[BridgedNode, BridgedNode]]:
    """Two nodes whose agents share a store. The router has the gateway address."""
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    plugins = directory / "bin"
    installer.install(plugins, directory / "net.d")
    bridge = next(path for path in PLUGIN_DIRECTORIES if (path / "bridge").exists()) / "bridge"
    (plugins / "bridge").symlink_to(bridge)
    network.fabric.ip("address", "add", scenario.gateway, "dev", "br0")
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        nodes = []
        for name in ("n1", "n2"):
            settings = Settings(
                node_name=name,
                socket_path=str(directory / f"{name}.sock"),
                health_port=0,
                metrics_port=0,
                plugin_log_path=str(directory / f"{name}.log"),
            )
            agent = await stack.enter_async_context(running(settings, store))
            nodes.append(BridgedNode(network.node(name), agent, plugins))
        yield nodes[0], nodes[1]
    shutil.rmtree(directory)


async def test_pods_on_a_bridge_get_pool_addresses_and_no_gateway(
    network: NetworkHarness, bridged_nodes: tuple[BridgedNode, BridgedNode], scenario: Scenario
) -> None:
    first, second = bridged_nodes
    outside = network.outside()
    route = Route("198.51.100.0/24", scenario.gateway.partition("/")[0])
    pool = Pool(
        "nginx",
        family=4,
        subnet=scenario.subnet,
        ips=(scenario.ips,),
        default=True,
        routes=(route,),
    )
    assert pool_addresses(pool).size == scenario.address_count
    await first.agent.pool(pool.name, pool.subnet, *pool.ips, routes=(route,))
    pods = [network.namespace(f"web-{number}") for number in range(3)]
    nodes = (first, second, first)
    for pod in pods:
        await first.agent.pod(pod.name, {}, owner_kind="Deployment", owner_name="nginx")
    await second.agent.process.parts.view.freshen()

    results = [
        await node.call_bridge_plugin("ADD", pod.name)
        for node, pod in zip(nodes, pods, strict=True)
    ]

    addresses = [result["ips"][0]["address"].partition("/")[0] for result in results]
    ips = parse_range(scenario.ips)
    assert all(ips.first <= parse_address(text).value <= ips.last for text in addresses)
    assert {result["ips"][0]["version"] for result in results} == {"4"}
    assert all("gateway" not in result["ips"][0] for result in results)
    assert all("default" not in pod.ip("route") for pod in pods)
    assert sorted(await first.agent.claims()) == sorted(addresses)
    for address in addresses[1:]:
        assert await is_reachable(pods[0].inside, address)
    assert await is_reachable(outside.inside, addresses[0])
    assert await is_reachable(pods[1].inside, OUTSIDE_ADDRESSES[0])

    # The runtime replaces the sandbox of a Pod.
    await first.call_bridge_plugin("DEL", pods[0].name)
    new_address = (await first.call_bridge_plugin("ADD", pods[0].name))["ips"][0]["address"]
    assert ips.first <= parse_address(new_address.partition("/")[0]).value <= ips.last
    for node, pod in zip(nodes, pods, strict=True):
        pod.delete()
        await node.call_bridge_plugin("DEL", pod.name)
    assert await first.agent.claims() == {}


async def is_reachable(inside: Any, address: str) -> bool:
    command = inside(["ping", "-n", "-c", "1", "-W", "5", address])
    process = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    return process.returncode == 0
