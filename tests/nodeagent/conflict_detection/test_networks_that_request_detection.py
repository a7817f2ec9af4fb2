"""``detectIPConflict`` and ``detectGateway`` of a network enable detection for this network.

The fixture ``link`` is a bridge. A station is a network namespace with an eth0 on the bridge.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.domain.model import Nic
from core.eventstore.kv import Get
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import CONFLICT_CODE, INVALID_CONFIG, CniFailure
from nodeagent.conflict_detection.arp import ARP_REQUEST, decode_arp
from nodeagent.handlers.assigned_address_probe import assigned_nic
from nodeagent.netlink.values import mac_text
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, Reply, running
from tests.support.link import Link, Station, ip

GATEWAY = "10.6.0.1"


@pytest.fixture
async def node(short_path: Path) -> AsyncIterator[AgentHarness]:
    """An agent whose own settings disable detection."""
    settings = Settings(
        node_name="node-1",
        socket_path=str(short_path / "a.sock"),
        plugin_log_path=str(short_path / "plugin.log"),
        health_port=0,
        metrics_port=0,
        address_order="sequential",
        cool_down_s=0,
    )
    async with running(settings, MemoryStore()) as agent:
        await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20", gateway=GATEWAY)
        yield agent


async def attach(node: AgentHarness, pod: Station, **requested: object) -> Reply:
    """Run the ADDs of the IPAM plugin and of the coordinator; return the coordinator's reply."""
    result = (await node.call("ADD", CNI_NETNS=pod.netns)).result
    return await attach_with(result, node, pod, **requested)


async def attach_with(
    result: dict[str, Any], node: AgentHarness, pod: Station, **requested: object
) -> Reply:
    """Run the ADD of the coordinator after an IPAM plugin with this result."""
    address = result["ips"][0]["address"]
    ip("-n", Path(pod.netns).name, "address", "add", address, "dev", "eth0")
    ip("-n", Path(pod.netns).name, "link", "set", "eth0", "up")
    interfaces = [{"name": "eth0", "sandbox": pod.netns}]
    result |= {"interfaces": interfaces, "ips": [result["ips"][0] | {"interface": 0}]}
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": "coordinator", "prevResult": result}
    changes = {"CNI_NETNS": pod.netns, "ORBWEAVER_PLUGIN": "coordinator"}
    return await node.call("ADD", conf=conf | {"mode": "underlay"} | requested, **changes)


async def test_a_conflict_fails_the_add_and_the_next_sandbox_gets_another_address(
    link: Link, node: AgentHarness
) -> None:
    conflicting_host = link.station("10.6.0.10/24")
    pod, next_sandbox = link.station(), link.station()

    reply = await attach(node, pod, detectIPConflict=True)

    assert reply.error["code"] == CONFLICT_CODE
    assert (
        f"10.6.0.10 is located at {conflicting_host.mac}; the address was quarantined"
        in reply.error["msg"]
    )
    assert await node.claims() == {}
    assert await node.add(CNI_NETNS=next_sandbox.netns) == ["10.6.0.11/24"]


async def test_a_conflicting_address_of_another_ipam_plugin_is_not_quarantined(
    link: Link, node: AgentHarness
) -> None:
    link.station("10.7.0.10/24")
    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.7.0.10/24"}]}

    reply = await attach_with(result, node, link.station(), detectIPConflict=True)

    assert reply.error["code"] == CONFLICT_CODE
    assert "another IPAM plugin assigned the address" in reply.error["msg"]
    assert (await node.store.read([Get(*node.keys.range_of("quarantine"))])).ranges[0].kvs == ()


async def test_an_add_with_detect_gateway_fails_if_the_gateway_is_silent(
    link: Link, node: AgentHarness
) -> None:
    reply = await attach(node, link.station(), detectGateway=True)

    assert f"gateway {GATEWAY} is unreachable" in reply.error["msg"]
    assert set(await node.claims()) == {"10.6.0.10"}, "expected the claim to stay until the DEL"


async def test_detect_options_set_the_number_of_gateway_probes(
    link: Link, node: AgentHarness, listener: socket.socket
) -> None:
    options = {"retries": 2, "interval": "20ms", "timeout": "50ms"}
    pod = link.station()

    reply = await attach(node, pod, detectGateway=True, detectOptions=options)

    assert "is unreachable" in reply.error["msg"]
    targets = [await asyncio.to_thread(next_request_target, listener, pod) for _ in range(2)]
    assert targets == [GATEWAY] * 2
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        next_request_target(listener, pod)


def next_request_target(listener: socket.socket, pod: Station) -> str:
    """The target address of the Pod's next ARP request for another host."""
    while True:
        packet = decode_arp(listener.recv(2048))
        if packet is None or mac_text(packet.sender_mac) != pod.mac:
            continue
        if packet.operation == ARP_REQUEST and packet.sender_ip != packet.target_ip:
            return socket.inet_ntoa(packet.target_ip)


async def test_invalid_detect_options_fail_the_add(link: Link, node: AgentHarness) -> None:
    reply = await attach(node, link.station(), detectOptions={"timeout": "soon"})

    assert reply.error["code"] == INVALID_CONFIG
    assert "detectOptions.timeout: 'soon' is not a duration" in reply.error["msg"]


@pytest.mark.parametrize(
    ("previous", "nic"),
    [
        ({}, Nic("eth0")),
        (
            {
                "interfaces": [{"name": "net1"}, {"name": "eth0"}],
                "ips": [
                    {"address": "10.7.0.9/24", "interface": 0},
                    {"address": "10.6.0.9/24", "interface": 1, "gateway": GATEWAY},
                    {"address": "10.6.0.8/24", "interface": 1},
                    {"address": "fd00::9/64"},
                ],
            },
            Nic("eth0", ipv4="10.6.0.9/24", ipv4_gateway=GATEWAY, ipv6="fd00::9/64"),
        ),
    ],
)
def test_the_assigned_nic_has_the_first_address_of_each_family_in_prev_result(
    previous: dict[str, Any], nic: Nic
) -> None:
    """An address without an interface counts for every interface."""
    assert assigned_nic(previous, "eth0") == nic


def test_a_gateway_that_is_not_an_address_is_refused() -> None:
    with pytest.raises(CniFailure, match="gateway"):
        assigned_nic({"ips": [{"address": "10.6.0.9/24", "gateway": "here"}]}, "eth0")
