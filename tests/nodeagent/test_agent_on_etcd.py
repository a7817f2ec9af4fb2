"""The agent on a real etcd, also while etcd does not answer.

Error codes: 11 (try again later), 50 (not available), 110 (the pool is full), 131 (the agent is
fenced).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, Reply, exchange, request_frame, running
from tests.support.deadlines import DEADLINE_S
from tests.support.etcd import EtcdCluster, free_ports
from tests.support.http_caller import over_tcp

pytestmark = pytest.mark.etcd
WAIT_S = DEADLINE_S


@pytest.fixture
async def etcd_node(etcd: EtcdCluster, settings: Settings) -> AsyncIterator[AgentHarness]:
    """An agent with a unique cluster name, because tests share one etcd."""
    store = EtcdStore(EtcdSettings(etcd.endpoints))
    cluster = f"c{os.urandom(4).hex()}"
    async with running(settings._replace(cluster=cluster), store) as node:
        yield node
    await store.close()


def file_limit_prefix(files_max: tuple[int, int] | None) -> list[str]:
    return [] if files_max is None else ["prlimit", f"--nofile={files_max[0]}:{files_max[1]}"]


class AgentProcess:
    """The agent's daemon."""

    def __init__(
        self,
        directory: Path,
        etcd: EtcdCluster,
        cluster: str,
        name: str,
        *,
        files_max: tuple[int, int] | None = None,
    ) -> None:
        self.socket = directory / f"{name}.sock"
        self.log = directory / f"{name}.log"
        (self.health_port,) = free_ports(1)
        variables = {
            "PATH": os.environ["PATH"],
            "SPIDERPOOL_NODE_NAME": "node-1",
            "SPIDERPOOL_HEALTH_PORT": str(self.health_port),
            "ORBWEAVER_CLUSTER": cluster,
            "ORBWEAVER_ETCD_ENDPOINTS": ",".join(etcd.endpoints),
            "ORBWEAVER_SOCKET_PATH": str(self.socket),
            "ORBWEAVER_PLUGIN_LOG_PATH": str(directory / "plugin.log"),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*file_limit_prefix(files_max), sys.executable, "-m", "nodeagent.main"],
                env=variables,
                stderr=log,
            )

    async def until_ready(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                assert self.process.poll() is None, self.log.read_text()
                try:
                    if (await over_tcp(self.health_port, "/v1/runtime/readiness")).status == 200:
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.02)

    async def call(self, request: bytes) -> Reply:
        return await exchange(f"{self.socket}.fast", request)

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


@pytest.fixture
def processes_to_kill() -> Iterator[list[AgentProcess]]:
    daemons: list[AgentProcess] = []
    yield daemons
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()


async def test_etcd_has_a_claim_for_each_address_of_an_add_until_its_delete(
    etcd_node: AgentHarness,
) -> None:
    await etcd_node.pool("lan-4", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    await etcd_node.pool("lan-6", "fd00:6::/64", "fd00:6::10-fd00:6::99")

    answers = await asyncio.gather(*(etcd_node.add(f"web-{n}") for n in range(40)))
    claims = await etcd_node.claims()
    await asyncio.gather(*(etcd_node.delete(f"web-{n}") for n in range(40)))

    reported = {address.partition("/")[0] for addresses in answers for address in addresses}
    assert reported == set(claims)
    assert len(reported) == 80
    assert await etcd_node.claims() == {}


async def test_adds_claim_all_addresses_of_a_pool_and_then_fail(
    etcd_node: AgentHarness,
) -> None:
    await etcd_node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.41")  # 32 addresses

    replies = await asyncio.gather(*(etcd_node.call("ADD", f"web-{n}") for n in range(40)))
    status = await etcd_node.call("STATUS")

    failed = [reply.error for reply in replies if reply.status]
    assert len(failed) == 8
    assert {error["code"] for error in failed} == {110}
    assert len(await etcd_node.claims()) == 32
    assert status.error["code"] == 50


async def test_check_and_gc_read_the_claims_in_etcd(
    etcd_node: AgentHarness, short_path: Path
) -> None:
    await etcd_node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    netns = str(short_path / "gone")
    result = (await etcd_node.call("ADD", CNI_NETNS=netns)).result

    checked = await etcd_node.call("CHECK", conf=etcd_node.netconf(prevResult=result))
    conf = etcd_node.netconf(**{"cni.dev/valid-attachments": []})
    collected = await etcd_node.call("GC", conf=conf)

    assert (checked.status, collected.status) == (0, 0)
    assert await etcd_node.claims() == {}


async def test_the_daemon_serves_until_sigterm(
    etcd: EtcdCluster,
    etcd_node: AgentHarness,
    short_path: Path,
    processes_to_kill: list[AgentProcess],
) -> None:
    cluster = etcd_node.process.settings.cluster
    await etcd_node.pool("lan", "10.6.0.0/24", "10.6.0.10")
    daemon = AgentProcess(short_path, etcd, cluster, "daemon")
    processes_to_kill.append(daemon)
    request = request_frame(etcd_node.environment("ADD"), json.dumps(etcd_node.netconf()).encode())

    await daemon.until_ready()
    reply = await daemon.call(request)

    assert reply.result["ips"] == [{"address": "10.6.0.10/24"}]
    assert daemon.terminate() == 0
    assert not daemon.socket.exists()
    assert json.loads(daemon.log.read_text().splitlines()[0])["msg"] == "ready"


async def test_a_second_daemon_with_the_same_node_name_fences_the_first_daemon(
    etcd: EtcdCluster,
    etcd_node: AgentHarness,
    short_path: Path,
    processes_to_kill: list[AgentProcess],
) -> None:
    cluster = etcd_node.process.settings.cluster
    await etcd_node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    request = request_frame(etcd_node.environment("ADD"), json.dumps(etcd_node.netconf()).encode())
    first = AgentProcess(short_path, etcd, cluster, "first")
    processes_to_kill.append(first)
    await first.until_ready()
    second = AgentProcess(short_path, etcd, cluster, "second")
    processes_to_kill.append(second)
    await second.until_ready()

    refused = await first.call(request)
    exit_code = first.process.wait(WAIT_S)
    served = await second.call(request)

    assert refused.error["code"] == 131
    assert exit_code == 3, "the exit code of a fenced agent"
    assert "fenced" in first.log.read_text()
    assert served.status == 0
    assert len(await etcd_node.claims()) == 1


async def until_adds_are_served(agent: AgentHarness) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await agent.call("STATUS")).status:
            await asyncio.sleep(0.05)


async def test_an_agent_serves_again_after_a_crash_of_etcd(
    tmp_path: Path, settings: Settings
) -> None:
    with EtcdCluster(tmp_path) as etcd:
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        async with running(settings, store) as node:
            await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
            await node.add("web-0")
            (member,) = etcd.members
            member.kill()
            status = (await node.call("STATUS")).error
            etcd.restart(member)
            await until_adds_are_served(node)
            after = await node.add("web-0")
            await node.delete("web-0")

            assert status["code"] == 50
            assert after
            assert await node.claims() == {}
        await store.close()


async def test_deletes_fail_and_release_nothing_while_etcd_does_not_answer(
    tmp_path: Path, settings: Settings
) -> None:
    names = [f"web-{number}" for number in range(20)]
    with EtcdCluster(tmp_path) as etcd:
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        async with running(settings, store) as node:
            await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
            await asyncio.gather(*map(node.add, names))
            (member,) = etcd.members
            member.kill()
            node.process.parts.runner._requests_max = 5
            replies = await asyncio.gather(*(node.call("DEL", name) for name in names))
            etcd.restart(member)
            await until_adds_are_served(node)
            claims = await node.claims()
            node.process.parts.runner._requests_max = len(names)
            await asyncio.gather(*map(node.delete, names))

            assert {reply.error["code"] for reply in replies} == {11}
            assert any("queue is full" in reply.error["msg"] for reply in replies)
            assert len(claims) == len(names)
            assert await node.claims() == {}
        await store.close()
