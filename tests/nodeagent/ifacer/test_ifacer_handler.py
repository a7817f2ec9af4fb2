"""The agent's responses to calls of the executable ``ifacer``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.errors import DatapathError
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import INTERFACE_NOT_PREPARED
from nodeagent.ifacer.ifacer_configuration import InterfaceConfig
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, Reply, running
from tests.support.parts import NAMESPACES, needs

MISSING_LINK = "ow-nowhere0"


@pytest.fixture
async def agent() -> AsyncIterator[AgentHarness]:
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    settings = Settings(
        node_name="node-1",
        socket_path=str(directory / "a.sock"),
        plugin_log_path=str(directory / "plugin.log"),
        health_port=0,
        metrics_port=0,
    )
    async with running(settings, MemoryStore()) as agent:
        yield agent
    shutil.rmtree(directory)


async def call(agent: AgentHarness, verb: str = "ADD", **fields: object) -> Reply:
    conf: dict[str, object] = {"cniVersion": "1.0.0", "name": "lan", "type": "ifacer"}
    return await agent.call(verb, conf=conf | fields, ORBWEAVER_PLUGIN="ifacer")


async def test_an_add_without_a_vlan_or_bond_returns_an_empty_result(agent: AgentHarness) -> None:
    reply = await call(agent, interfaces=[MISSING_LINK])

    assert reply.body == b'{\n    "cniVersion": "1.0.0",\n    "dns": {}\n}\n'
    assert await agent.claims() == {}, "an ADD of ifacer allocates no addresses"


async def test_an_add_returns_the_prev_result(agent: AgentHarness) -> None:
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "dns": {}}

    assert (await call(agent, interfaces=["a"], prevResult=previous)).result == previous


async def test_the_error_of_a_missing_master_names_the_master(agent: AgentHarness) -> None:
    error = (await call(agent, interfaces=[MISSING_LINK], vlanID=5)).error

    assert error["code"] == INTERFACE_NOT_PREPARED
    assert error["msg"] == f"there is no interface {MISSING_LINK} on this node"


async def test_an_invalid_vlan_id_is_refused_with_code_7(agent: AgentHarness) -> None:
    error = (await call(agent, interfaces=[MISSING_LINK], vlanID=5000)).error

    assert error["code"] == 7  # CNI: invalid network configuration
    assert "vlan tag must be in range [0,4094]" in error["msg"]


async def test_a_call_of_an_unknown_executable_is_refused_and_claims_nothing(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    error = (await agent.call("ADD", ORBWEAVER_PLUGIN="newer")).error

    assert error["code"] == 11  # CNI: try again later
    assert "does not support the executable 'newer'" in error["msg"]
    assert await agent.claims() == {}


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
async def test_del_and_check_succeed_without_output(agent: AgentHarness, verb: str) -> None:
    reply = await call(agent, verb, interfaces=[MISSING_LINK], vlanID=5)

    assert (reply.status, reply.body) == (0, b"")


@pytest.fixture
def namespace() -> Iterator[Path]:
    name = f"ow-ifacer-{uuid.uuid4().hex[:8]}"
    result = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if result.returncode:
        pytest.skip(needs(NAMESPACES, "root and iproute2"))
    pair = ("type", "veth", "peer", "name", "other")
    subprocess.run(["ip", "-n", name, "link", "add", "ens3", *pair], check=True)
    yield Path("/run/netns") / name
    subprocess.run(["ip", "netns", "delete", name], check=True)


async def test_the_remedy_of_a_kernel_without_vlans_names_the_module(namespace: Path) -> None:
    executor = NetnsExecutor()
    with NetworkNamespace.open(str(namespace)) as inside:
        configurator = LinkConfigurator(executor, inside)
        try:
            await configurator.prepare(InterfaceConfig(("ens3",), vlan=5))
            remedy = "modprobe -a 8021q"  # this kernel has VLANs, so there is no error
        except DatapathError as error:
            remedy = error.remedy
    executor.close()

    assert "modprobe -a 8021q" in remedy


def test_an_agent_does_not_import_pyroute2_at_its_start() -> None:
    """pyroute2 needs 13 MB of memory, and most agents do not create links."""
    program = "import sys, nodeagent.main; print('pyroute2' in sys.modules)"

    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert output == "False\n"
