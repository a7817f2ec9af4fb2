"""The detector finds hosts in other network namespaces over a bridge.

The fixture ``link`` is the bridge. A station is a network namespace with an eth0 on the bridge.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from core.domain.model import Nic
from core.errors import DetectionFailed
from nodeagent.conflict_detection.arp import arp_announcement, decode_arp
from nodeagent.conflict_detection.detector import (
    ConflictingAddress,
    DetectionResult,
    DetectionSwitches,
    Detector,
)
from nodeagent.conflict_detection.ndp import ALL_NODES, Advertisement, Solicitation, decode_message
from tests.nodeagent.conflict_detection.detectors import detecting_on
from tests.support.descriptors import open_descriptors
from tests.support.emulation import needs_packet_groups, needs_real_time
from tests.support.link import Link, Station, ip

CONFLICTS_AND_GATEWAY = DetectionSwitches(conflicts=True, gateway=True)
CONFLICTS = DetectionSwitches(conflicts=True)
GATEWAY = DetectionSwitches(gateway=True)
DUAL = Nic(
    "eth0",
    ipv4="10.6.0.17/24",
    ipv4_pool="lan-v4",
    ipv4_gateway="10.6.0.1",
    ipv6="fd00:6::11/64",
    ipv6_pool="lan-v6",
    ipv6_gateway="fd00:6::1",
)
ONLY6 = Nic("eth0", ipv6="fd00:6::11/64", ipv6_pool="lan-v6", ipv6_gateway="fd00:6::1")
CONCURRENT_PROBES = 64


@needs_packet_groups
async def test_a_probe_finds_no_fault_if_addresses_are_unused_and_the_gateway_answers(
    link: Link, detector: Detector
) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    pod = link.station(up=False)

    assert await detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY) == DetectionResult()


@needs_packet_groups
async def test_a_probe_returns_the_mac_address_of_a_conflicting_host(
    link: Link, detector: Detector
) -> None:
    conflicting_host = link.station("10.6.0.17/24")
    pod = link.station(up=False)

    result = await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert result == DetectionResult((ConflictingAddress("10.6.0.17", conflicting_host.mac),))


@needs_packet_groups
async def test_a_probe_returns_the_mac_address_of_a_conflicting_ipv6_host(
    link: Link, detector: Detector
) -> None:
    conflicting_host = link.station("fd00:6::11/64")
    pod = link.station(up=False)

    result = await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert result == DetectionResult((ConflictingAddress("fd00:6::11", conflicting_host.mac),))


@needs_packet_groups
async def test_conflicting_hosts_of_both_families_are_found_in_one_probe(
    link: Link, detector: Detector
) -> None:
    first, second = link.station("10.6.0.17/24"), link.station("fd00:6::11/64")
    pod = link.station(up=False)

    result = await detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY)

    assert result.conflicts == (
        ConflictingAddress("10.6.0.17", first.mac),
        ConflictingAddress("fd00:6::11", second.mac),
    )


@needs_packet_groups
async def test_a_gateway_that_does_not_answer_is_reported_as_silent(
    link: Link, detector: Detector
) -> None:
    link.station("10.6.0.1/24")
    pod = link.station(up=False)

    assert await detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY) == DetectionResult(
        silent_gateways=("fd00:6::1",)
    )
    assert await detector.probe(pod.netns, DUAL, CONFLICTS) == DetectionResult(), (
        "expected no probe of gateways"
    )
    assert (
        await detector.probe(pod.netns, DUAL._replace(ipv6_gateway=""), CONFLICTS_AND_GATEWAY)
        == DetectionResult()
    )


@needs_packet_groups
async def test_conflicting_hosts_are_found_if_the_namespace_has_ipv6_disabled(
    link: Link, detector: Detector
) -> None:
    """CNI plugins may enable IPv6 after the probe."""
    conflicting_host = link.station("fd00:6::11/64", "fd00:6::1/64")
    pod = link.station(up=False)
    set_sysctl(pod, "net/ipv6/conf/all/disable_ipv6", "1")

    result = await detector.probe(pod.netns, ONLY6, CONFLICTS)

    assert result == DetectionResult((ConflictingAddress("fd00:6::11", conflicting_host.mac),))
    free_nic = ONLY6._replace(ipv6="fd00:6::12/64")
    assert await detector.probe(pod.netns, free_nic, GATEWAY) == DetectionResult()


@needs_packet_groups
async def test_a_macvlan_receives_answers(link: Link, detector: Detector) -> None:
    """A macvlan receives a multicast frame only if it has joined the group."""
    conflicting_host = link.station("10.6.0.17/24", "fd00:6::11/64")
    node, pod = link.station(), link.station()
    replace_by_macvlan(pod, node)
    set_sysctl(pod, "net/ipv6/conf/all/disable_ipv6", "1")

    result = await detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY)

    assert {conflict.address for conflict in result.conflicts} == {"10.6.0.17", "fd00:6::11"}
    assert {conflict.mac for conflict in result.conflicts} == {conflicting_host.mac}


@needs_packet_groups
async def test_an_address_of_the_node_is_a_conflict_although_no_host_answers(
    link: Link,
) -> None:
    """A macvlan and its master do not receive each other's frames."""
    node, pod = link.station("10.6.0.17/24", "fd00:6::11/64"), link.station()
    replace_by_macvlan(pod, node)

    async with detecting_on(node) as detector:
        result = await detector.probe(pod.netns, DUAL, CONFLICTS)
        other = DUAL._replace(ipv4="10.6.0.18/24", ipv6="fd00:6::12/64")
        assert await detector.probe(pod.netns, other, CONFLICTS) == DetectionResult()

    assert result.conflicts == (
        ConflictingAddress("10.6.0.17", node.mac),
        ConflictingAddress("fd00:6::11", node.mac),
    )


@needs_real_time
async def test_many_concurrent_probes_leave_no_socket_and_no_thread(link: Link) -> None:
    node, pod = link.station(), link.station()
    # Descriptors of earlier tests may be closed at any time, so only new descriptors count.
    sockets, threads = open_sockets(), set(threading.enumerate())

    async with detecting_on(node) as detector:
        probes = (detector.probe(pod.netns, DUAL, CONFLICTS) for _ in range(CONCURRENT_PROBES))
        assert await asyncio.gather(*probes) == [DetectionResult()] * CONCURRENT_PROBES

    assert open_sockets() - sockets == set()
    new_threads = {thread.name for thread in set(threading.enumerate()) - threads}
    assert all(name.startswith("asyncio") for name in new_threads), "expected no other new threads"


@needs_packet_groups
async def test_a_conflict_probe_changes_no_neighbour_cache(link: Link, detector: Detector) -> None:
    """Required by RFC 5227, 2.1.1."""
    neighbour = link.station("10.6.0.99/24", "fd00:6::99/64")
    set_sysctl(neighbour, "net/ipv4/conf/all/arp_accept", "1")
    pod = link.station(up=False)

    await detector.probe(pod.netns, DUAL, CONFLICTS)

    neighbours = ip("-n", Path(neighbour.netns).name, "neighbour", "show")
    assert "10.6.0.17" not in neighbours
    assert "fd00:6::11" not in neighbours


@needs_packet_groups
async def test_a_conflict_is_found_if_two_hosts_probe_the_same_address(
    link: Link, detector: Detector
) -> None:
    """Required by RFC 5227, 2.1.1, and RFC 4862, 5.4.3."""
    first, second = link.station(), link.station()

    results = await asyncio.gather(
        detector.probe(first.netns, DUAL, CONFLICTS),
        detector.probe(second.netns, DUAL, CONFLICTS),
    )

    conflicts = {conflict for result in results for conflict in result.conflicts}
    assert {conflict.address for conflict in conflicts} == {"10.6.0.17", "fd00:6::11"}
    assert {conflict.mac for conflict in conflicts} <= {first.mac, second.mac}


async def test_a_probe_fails_if_the_interface_is_missing_or_not_ethernet(
    link: Link, detector: Detector
) -> None:
    pod = link.station()

    with pytest.raises(DetectionFailed, match=r"on net7 in .*No such device"):
        await detector.probe(pod.netns, DUAL._replace(interface="net7"), CONFLICTS)
    with pytest.raises(DetectionFailed, match="not Ethernet"):
        await detector.probe(pod.netns, DUAL._replace(interface="lo"), CONFLICTS)


async def test_a_probe_fails_and_creates_no_namespace_if_the_namespace_is_missing(
    detector: Detector, namespaces: None
) -> None:
    missing_path = Path("/run/netns/ow-detect-gone")

    with pytest.raises(DetectionFailed, match="there is no network namespace"):
        await detector.probe(str(missing_path), DUAL, CONFLICTS)
    detector.announce_later(str(missing_path), DUAL)
    await detector.close()

    assert not missing_path.exists()


async def test_a_probe_whose_link_is_deleted_fails_or_finds_silent_gateways(
    link: Link, detector: Detector
) -> None:
    pod = link.station()
    probe = asyncio.ensure_future(detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY))
    await asyncio.sleep(0)
    ip("-n", Path(pod.netns).name, "link", "delete", "eth0")

    (result,) = await asyncio.gather(probe, return_exceptions=True)

    silent_result = DetectionResult(silent_gateways=("10.6.0.1", "fd00:6::1"))
    assert isinstance(result, DetectionFailed) or result == silent_result


@needs_packet_groups
async def test_a_cancelled_probe_leaves_no_socket_open(link: Link, detector: Detector) -> None:
    pod = link.station()
    before = open_sockets()

    for _ in range(5):
        probe = asyncio.ensure_future(detector.probe(pod.netns, DUAL, CONFLICTS_AND_GATEWAY))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
    await detector.probe(pod.netns, DUAL, CONFLICTS)
    await detector.close()

    assert open_sockets() - before == set()


@needs_packet_groups
async def test_threads_stay_in_the_agents_own_namespace(link: Link, detector: Detector) -> None:
    pod = link.station()
    own_namespace = Path("/proc/thread-self/ns/net").readlink()

    await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert Path("/proc/thread-self/ns/net").readlink() == own_namespace
    tasks = Path("/proc/self/task").iterdir()
    assert {(task / "ns/net").readlink() for task in tasks} == {own_namespace}


async def test_addresses_are_announced_on_the_link(
    link: Link, detector: Detector, listener: socket.socket, listening_station: Station
) -> None:
    pod = link.station()

    detector.announce_later(pod.netns, DUAL)
    await detector.close()

    mac = bytes.fromhex(pod.mac.replace(":", ""))
    ipv6 = socket.inet_pton(socket.AF_INET6, "fd00:6::11")
    expected: list[object] = [
        arp_announcement(mac, socket.inet_aton("10.6.0.17")),
        Advertisement(ipv6, ALL_NODES, ipv6, mac, override=True),
        Solicitation(ipv6, ipv6, mac),
    ]
    received_messages: list[object] = []
    while not all(packet in received_messages for packet in expected):
        frame = listener.recv(2048)
        message = decode_message(frame)
        received_messages.append(message.message if message else decode_arp(frame))

    assert [packet for packet in received_messages if packet in expected] == expected


async def test_an_announcement_updates_neighbour_caches(link: Link, detector: Detector) -> None:
    neighbour = link.station("10.6.0.99/24", "fd00:6::99/64")
    name = Path(neighbour.netns).name
    for address in ("10.6.0.17", "fd00:6::11"):
        stale_entry = ("lladdr", "02:00:00:00:aa:aa", "dev", "eth0", "nud", "stale")
        ip("-n", name, "neighbour", "add", address, *stale_entry)
    set_sysctl(neighbour, "net/ipv4/neigh/eth0/locktime", "0")
    pod = link.station()

    detector.announce_later(pod.netns, DUAL)
    await detector.close()

    neighbours = ip("-n", name, "neighbour", "show")
    assert f"10.6.0.17 dev eth0 lladdr {pod.mac}" in neighbours
    assert f"fd00:6::11 dev eth0 lladdr {pod.mac}" in neighbours


def replace_by_macvlan(pod: Station, node: Station) -> None:
    pod_netns, node_netns = Path(pod.netns).name, Path(node.netns).name
    ip("-n", pod_netns, "link", "delete", "eth0")
    # Kernels before 6.14 require that no link of the node has the name of the new link.
    child = ("link", "eth0", "name", "mv0", "netns", pod_netns, "type", "macvlan", "mode", "bridge")
    ip("-n", node_netns, "link", "add", *child)
    ip("-n", pod_netns, "link", "set", "mv0", "name", "eth0")


def set_sysctl(station: Station, sysctl: str, value: str) -> None:
    write = f"printf {value} >/proc/sys/{sysctl}"
    command = ["nsenter", f"--net={station.netns}", "--", "sh", "-c", write]
    subprocess.run(command, check=True)


def open_sockets() -> set[str]:
    return {descriptor for descriptor in open_descriptors() if " socket:" in descriptor}
