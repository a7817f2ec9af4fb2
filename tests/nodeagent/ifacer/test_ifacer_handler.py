"""The agent's answers to calls of the executable; NICs of the machine are never changed."""

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
from core.eventstore.memory import MemoryStore
from nodeagent.ifacer.conf import InterfaceConfig
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.settings.values import Settings
from tests.support.agent_harness import AgentHarness, Reply, running
from tests.support.parts import NAMESPACES, needs

NOWHERE = "ow-nowhere0"


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


async def test_with_nothing_to_do_the_result_is_empty(agent: AgentHarness) -> None:
    reply = await call(agent, interfaces=[NOWHERE])

    assert reply.body == b'{\n    "cniVersion": "1.0.0",\n    "dns": {}\n}\n'
    assert await agent.claims() == {}, "it is not taken for an ADD of addresses"


async def test_a_result_before_it_goes_on(agent: AgentHarness) -> None:
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "dns": {}}

    assert (await call(agent, interfaces=["a"], prevResult=previous)).result == previous


async def test_a_master_that_is_not_there_is_named(agent: AgentHarness) -> None:
    error = (await call(agent, interfaces=[NOWHERE], vlanID=5)).error

    assert error["code"] == 119
    assert error["msg"] == f"there is no interface {NOWHERE} on this node"


async def test_a_configuration_that_cannot_be_is_refused_by_its_field(agent: AgentHarness) -> None:
    error = (await call(agent, interfaces=[NOWHERE], vlanID=5000)).error

    assert error["code"] == 7
    assert "vlan tag must be in range [0,4094]" in error["msg"]


async def test_an_executable_that_the_agent_does_not_know_gets_no_addresses(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    error = (await agent.call("ADD", ORBWEAVER_PLUGIN="newer")).error

    assert error["code"] == 11
    assert "does not support the executable 'newer'" in error["msg"]
    assert await agent.claims() == {}


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
async def test_what_has_nothing_to_do_succeeds(agent: AgentHarness, verb: str) -> None:
    reply = await call(agent, verb, interfaces=[NOWHERE], vlanID=5)

    assert (reply.status, reply.body) == (0, b"")


@pytest.fixture
def namespace() -> Iterator[Path]:
    name = f"ow-ifacer-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(needs(NAMESPACES, "root and iproute2"))
    pair = ("type", "veth", "peer", "name", "other")
    subprocess.run(["ip", "-n", name, "link", "add", "ens3", *pair], check=True)
    yield Path("/run/netns") / name
    subprocess.run(["ip", "netns", "delete", name], check=True)


async def test_a_kernel_without_vlans_says_which_module_is_missing(namespace: Path) -> None:
    executor = NetnsExecutor()
    with NetworkNamespace.open(str(namespace)) as inside:
        preparer = LinkConfigurator(executor, inside)
        try:
            await preparer.prepare(InterfaceConfig(("ens3",), 5))
            words = "modprobe -a 8021q"  # the kernel of this machine has them
        except DatapathError as error:
            words = error.remedy
    executor.close()

    assert "modprobe -a 8021q" in words


def test_an_agent_loads_pyroute2_only_for_links_that_it_creates() -> None:
    """It needs 13 MB, which most agents never use."""
    program = "import sys, nodeagent.main; print('pyroute2' in sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert loaded == "False\n"
