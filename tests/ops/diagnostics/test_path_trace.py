"""``orbctl trace-path`` shows how the routes and rules of Pod and node direct a packet.

A path has up to three legs: ``there``, ``back`` and ``marked``. The leg ``marked`` is the reply to
a connection that reached the Pod through the node.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import parse_address
from ops.diagnostics.paths.path_trace import PathLeg, legs
from ops.diagnostics.paths.route_lookup import Stack, route_text, rule_text, table_name
from ops.lab.programs import console_script
from tests.support.network_harness import (
    OUTSIDE_ADDRESSES,
    SERVICE_CIDRS,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
)

pytestmark = pytest.mark.netns

SETTINGS: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
POD_ADDRESSES: Final = ("10.6.0.101", "fd00:6::101")
ROUTER: Final = ("10.6.0.1", "fd00:6::1")
SERVICE: Final = ("10.96.0.10", "fd00:96::10")


def trace(pod: NetworkPod, destination: str) -> dict[str, PathLeg]:
    executor = pod.node.network.executor
    inside = pod.node.network.open_namespace(pod.inside)
    with executor.session(inside) as in_pod, executor.session(pod.node.namespace) as on_node:
        stacks = Stack("pod", in_pod), Stack("node", on_node)
        return {leg.name: leg for leg in legs(*stacks, parse_address(destination))}


def hop_lines(leg: PathLeg) -> list[str]:
    return [
        f"{hop.stack}: {rule_text(hop.answer.rule)} | {table_name(hop.answer.route.table)}"
        f" | {route_text(hop.answer)}"
        for hop in leg.hops
        if hop.answer.route is not None
    ]


@FAMILIES
def test_pod_and_node_reach_each_other_by_the_veth_pair(
    network_pod: NetworkPod, family: int
) -> None:
    network_pod.add(**SETTINGS)
    node = network_pod.node.addresses[family]
    path_legs = trace(network_pod, node)
    assert hop_lines(path_legs["there"]) == [
        f"pod: 32766: lookup main | main | {node} dev veth0",
        f"node: 0: lookup local | local | local {node} dev eth0",
    ]
    assert path_legs["there"].end == "arrives at the node"
    assert hop_lines(path_legs["back"]) == [
        f"node: 1000: lookup 500 | 500 | {POD_ADDRESSES[family]} dev {network_pod.host_veth_name}",
        f"pod: 0: lookup local | local | local {POD_ADDRESSES[family]} dev eth0",
    ]
    assert path_legs["back"].end == "arrives in the Pod"
    for hop in (path_legs["there"].hops[0], path_legs["back"].hops[0]):
        assert hop.answer.neighbour.endswith(" permanent")


@FAMILIES
def test_a_service_is_reached_through_the_node_and_the_outside_through_the_nic(
    network_pod: NetworkPod, family: int
) -> None:
    network_pod.add(**SETTINGS)
    service_legs = trace(network_pod, SERVICE[family])
    network = SERVICE_CIDRS[family]
    gateway = network_pod.node.addresses[family]
    assert hop_lines(service_legs["there"])[0] == (
        f"pod: 32766: lookup main | main | {network} via {gateway} dev veth0"
    )
    assert service_legs["there"].end == "leaves the node by eth0"
    assert hop_lines(service_legs["back"])[0].startswith("node: 1000: lookup 500 | 500 | ")
    outside_legs = trace(network_pod, OUTSIDE_ADDRESSES[family])
    assert hop_lines(outside_legs["there"]) == [
        f"pod: 32766: lookup main | main | default via {ROUTER[family]} dev eth0"
    ]
    assert outside_legs["there"].end == "leaves by eth0 onto the network of eth0, past the node"
    assert outside_legs["back"].hops[0].packet.endswith("in by eth0")


@FAMILIES
def test_a_reply_with_the_mark_leaves_by_the_node(network_pod: NetworkPod, family: int) -> None:
    network_pod.add(**SETTINGS)
    marked_leg = trace(network_pod, OUTSIDE_ADDRESSES[family])["marked"]
    gateway = network_pod.node.addresses[family]
    assert hop_lines(marked_leg)[0] == (
        f"pod: 1000: fwmark 0x1 lookup 100 | 100 | default via {gateway} dev veth0"
    )
    assert marked_leg.hops[0].packet.endswith("mark 0x1")
    assert marked_leg.hops[1].packet.endswith(f"in by {network_pod.host_veth_name}")
    assert marked_leg.end == "leaves the node by eth0"


@FAMILIES
def test_a_packet_to_the_node_leaves_by_the_nic_if_no_coordinator_ran(
    network_pod: NetworkPod, family: int
) -> None:
    path_legs = trace(network_pod, network_pod.node.addresses[family])
    assert path_legs["there"].end == "leaves by eth0 onto the network of eth0, past the node"
    assert "marked" not in path_legs


def test_rules_for_the_source_address_choose_the_table_of_a_second_nic(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.calico("10.244.1.5")
    pod.macvlan("net1", "10.6.0.101/24")
    pod.add("net1", overlayPodCIDR=["10.244.0.0/16"], **SETTINGS)
    (hop,) = hop_lines(trace(pod, "10.6.0.9")["there"])
    assert hop == "pod: 32765: from 10.6.0.101 lookup 101 | 101 | 10.6.0.0/24 dev net1"
    overlay_leg = trace(pod, "10.244.7.7")["there"]
    assert hop_lines(overlay_leg)[0].startswith("pod: 32764: from 10.244.1.5 lookup 100 | 100 | ")
    assert overlay_leg.hops[1].packet.endswith(f"in by cali{pod.container[:11]}")


def test_the_leg_of_a_dropped_packet_ends_with_the_reason(
    network: NetworkHarness, network_pod: NetworkPod
) -> None:
    network_pod.add(**SETTINGS)
    network.set_sysctls(network_pod.node.inside, {"net/ipv4/conf/all/rp_filter": "1"})
    network_pod.node.inside.ip("route", "del", POD_ADDRESSES[0], "table", "500")
    assert trace(network_pod, OUTSIDE_ADDRESSES[0])["marked"].end.startswith(
        "dropped on arrival: rp_filter"
    )
    network.set_sysctls(network_pod.node.inside, {"net/ipv4/ip_forward": "0"})
    assert "does not forward" in trace(network_pod, SERVICE[0])["there"].end
    network_pod.inside.ip("route", "del", "default")
    path_legs = trace(network_pod, OUTSIDE_ADDRESSES[0])
    assert (list(path_legs), path_legs["there"].end) == (["there"], "no route")


def test_a_packet_to_the_pods_own_address_stays_in_the_pod(network_pod: NetworkPod) -> None:
    network_pod.add(**SETTINGS)
    assert trace(network_pod, POD_ADDRESSES[0])["there"].end == "arrives in the Pod itself"


def test_trace_path_prints_a_table_or_json(network_pod: NetworkPod, tmp_path: Path) -> None:
    network_pod.add(**SETTINGS)
    command = [
        console_script("orbctl"),
        "trace-path",
        "web-0",
        f"{network_pod.node.addresses[0]}:80",
    ]
    command += ["--netns", str(network_pod.inside.path), "--bpffs", str(tmp_path)]
    table = network_pod.node.inside.run(*command)
    assert "there    web-0   10.6.0.101 → 10.6.0.11" in table
    assert "back: arrives in the Pod" in table
    document = json.loads(network_pod.node.inside.run(*command, "-o", "json"))
    (path,) = document["paths"]
    assert path["destination"] == "10.6.0.11:80"
    assert [leg["name"] for leg in path["legs"]] == ["there", "back", "marked"]
    assert path["legs"][1]["stops"][0]["table"] == "500"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["10.6.0.11:0"], "is not a port"),
        (["10.6.0.11:http"], "is not a port"),
        (["10.6.0.11", "--protocol", "sctp"], "neither tcp nor udp"),
    ],
)
def test_an_invalid_port_or_protocol_is_refused(
    network_pod: NetworkPod, arguments: list[str], words: str
) -> None:
    command = [
        console_script("orbctl"),
        "trace-path",
        "web-0",
        *arguments,
        "--netns",
        str(network_pod.inside.path),
    ]
    completed = network_pod.node.inside.attempt(*command)
    assert (completed.returncode, words in completed.stderr) == (2, True), completed.stderr
