"""Detection with real neighbours: kernels answer, frames cross a bridge, namespaces are deleted."""

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
from tests.support.emulation import joins_packet_groups, races_deadlines
from tests.support.link import Link, Station, ip

BOTH = DetectionSwitches(conflicts=True, gateway=True)
CONFLICTS = DetectionSwitches(conflicts=True)
GATEWAY = DetectionSwitches(gateway=True)
DUAL = Nic("eth0", "10.6.0.17/24", "lan-v4", "10.6.0.1", "fd00:6::11/64", "lan-v6", "fd00:6::1")
ONLY4 = Nic("eth0", "10.6.0.17/24", "lan-v4", "10.6.0.1")
ONLY6 = Nic("eth0", ipv6="fd00:6::11/64", ipv6_pool="lan-v6", ipv6_gateway="fd00:6::1")
ETH_P_ALL = 3


@joins_packet_groups
async def test_free_addresses_with_a_gateway_that_answers_are_free(
    link: Link, detector: Detector
) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    pod = link.station(up=False)

    assert await detector.probe(pod.netns, DUAL, BOTH) == DetectionResult()


@joins_packet_groups
async def test_a_stranger_is_found_with_its_hardware_address(
    link: Link, detector: Detector
) -> None:
    stranger = link.station("10.6.0.17/24")
    pod = link.station(up=False)

    found = await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert found == DetectionResult((ConflictingAddress("10.6.0.17", stranger.mac),))


@joins_packet_groups
async def test_a_stranger_of_ipv6_is_found_with_its_hardware_address(
    link: Link, detector: Detector
) -> None:
    stranger = link.station("fd00:6::11/64")
    pod = link.station(up=False)

    found = await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert found == DetectionResult((ConflictingAddress("fd00:6::11", stranger.mac),))


@joins_packet_groups
async def test_strangers_of_both_families_are_told_at_once(link: Link, detector: Detector) -> None:
    first, second = link.station("10.6.0.17/24"), link.station("fd00:6::11/64")
    pod = link.station(up=False)

    found = await detector.probe(pod.netns, DUAL, BOTH)

    assert found.conflicts == (
        ConflictingAddress("10.6.0.17", first.mac),
        ConflictingAddress("fd00:6::11", second.mac),
    )


@joins_packet_groups
async def test_a_gateway_that_is_not_there_is_silent(link: Link, detector: Detector) -> None:
    link.station("10.6.0.1/24")
    pod = link.station(up=False)

    assert await detector.probe(pod.netns, DUAL, BOTH) == DetectionResult((), ("fd00:6::1",))
    assert await detector.probe(pod.netns, DUAL, CONFLICTS) == DetectionResult(), (
        "nobody asked for gateways"
    )
    assert (
        await detector.probe(pod.netns, DUAL._replace(ipv6_gateway=""), BOTH) == DetectionResult()
    )


@joins_packet_groups
async def test_without_ipv6_in_the_namespace_its_neighbours_are_still_heard(
    link: Link, detector: Detector
) -> None:
    """CNI plugins enable IPv6 late; a disabled stack must not look like a link without hosts."""
    stranger = link.station("fd00:6::11/64", "fd00:6::1/64")
    pod = link.station(up=False)
    set_inside(pod, "net/ipv6/conf/all/disable_ipv6", "1")

    found = await detector.probe(pod.netns, ONLY6, CONFLICTS)

    assert found == DetectionResult((ConflictingAddress("fd00:6::11", stranger.mac),))
    free = ONLY6._replace(ipv6="fd00:6::12/64")
    assert await detector.probe(pod.netns, free, GATEWAY) == DetectionResult()


@joins_packet_groups
async def test_a_macvlan_hears_answers_too(link: Link, detector: Detector) -> None:
    """The usual NIC of Pods: a macvlan receives only multicast groups that it has joined."""
    stranger = link.station("10.6.0.17/24", "fd00:6::11/64")
    node, pod = link.station(), link.station()
    name = Path(pod.netns).name
    ip("-n", name, "link", "delete", "eth0")
    # Kernels before 6.14 want the name to be free on the node too.
    child = ("link", "eth0", "name", "mv0", "netns", name, "type", "macvlan", "mode", "bridge")
    ip("-n", Path(node.netns).name, "link", "add", *child)
    ip("-n", name, "link", "set", "mv0", "name", "eth0")
    set_inside(pod, "net/ipv6/conf/all/disable_ipv6", "1")

    found = await detector.probe(pod.netns, DUAL, BOTH)

    assert {one.address for one in found.conflicts} == {"10.6.0.17", "fd00:6::11"}
    assert {one.mac for one in found.conflicts} == {stranger.mac}


@joins_packet_groups
async def test_the_nodes_own_address_is_taken_though_no_link_shows_it(link: Link) -> None:
    """A macvlan and its master do not receive each other's frames."""
    node, pod = link.station("10.6.0.17/24", "fd00:6::11/64"), link.station()
    name = Path(pod.netns).name
    ip("-n", name, "link", "delete", "eth0")
    # Kernels before 6.14 want the name to be free on the node too.
    child = ("link", "eth0", "name", "mv0", "netns", name, "type", "macvlan", "mode", "bridge")
    ip("-n", Path(node.netns).name, "link", "add", *child)
    ip("-n", name, "link", "set", "mv0", "name", "eth0")

    async with detecting_on(node) as detector:
        found = await detector.probe(pod.netns, DUAL, CONFLICTS)
        other = DUAL._replace(ipv4="10.6.0.18/24", ipv6="fd00:6::12/64")
        assert await detector.probe(pod.netns, other, CONFLICTS) == DetectionResult()

    assert found.conflicts == (
        ConflictingAddress("10.6.0.17", node.mac),
        ConflictingAddress("fd00:6::11", node.mac),
    )


@races_deadlines
async def test_many_looks_at_once_leave_nothing_open(link: Link) -> None:
    node, pod = link.station(), link.station()
    # Descriptors of earlier tests may be closed at any time, so only new ones count.
    sockets, threads = open_sockets(), set(threading.enumerate())

    async with detecting_on(node) as detector:
        probes = (detector.probe(pod.netns, DUAL, CONFLICTS) for _ in range(64))
        assert await asyncio.gather(*probes) == [DetectionResult()] * 64

    assert open_sockets() - sockets == set()
    left = {one.name for one in set(threading.enumerate()) - threads}
    assert not {name for name in left if not name.startswith("asyncio")}, "the loop's own stay"


@joins_packet_groups
async def test_nobody_learns_of_an_address_from_the_question(
    link: Link, detector: Detector
) -> None:
    """RFC 5227, 2.1.1: a probe must not change caches; only a request to the gateway does."""
    neighbour = link.station("10.6.0.99/24", "fd00:6::99/64")
    set_inside(neighbour, "net/ipv4/conf/all/arp_accept", "1")
    pod = link.station(up=False)

    await detector.probe(pod.netns, DUAL, CONFLICTS)

    known = ip("-n", Path(neighbour.netns).name, "neighbour", "show")
    assert "10.6.0.17" not in known
    assert "fd00:6::11" not in known


@joins_packet_groups
async def test_of_two_that_probe_for_one_address_not_both_go_on(
    link: Link, detector: Detector
) -> None:
    """Neither has the address yet (RFC 5227, 2.1.1; RFC 4862, 5.4.3); the later one may go on."""
    one, other = link.station(), link.station()

    finds = await asyncio.gather(
        detector.probe(one.netns, DUAL, CONFLICTS), detector.probe(other.netns, DUAL, CONFLICTS)
    )

    conflicts = {stranger for found in finds for stranger in found.conflicts}
    assert {stranger.address for stranger in conflicts} == {"10.6.0.17", "fd00:6::11"}
    assert {stranger.mac for stranger in conflicts} <= {one.mac, other.mac}


async def test_an_interface_that_is_not_there_is_a_failure_and_not_silence(
    link: Link, detector: Detector
) -> None:
    pod = link.station()

    with pytest.raises(DetectionFailed, match=r"on net7 in .*No such device"):
        await detector.probe(pod.netns, DUAL._replace(interface="net7"), CONFLICTS)
    with pytest.raises(DetectionFailed, match="not Ethernet"):
        await detector.probe(pod.netns, DUAL._replace(interface="lo"), CONFLICTS)


async def test_a_namespace_that_is_gone_is_a_failure_and_is_not_made_anew(
    detector: Detector, namespaces: None
) -> None:
    gone = Path("/run/netns/ow-detect-gone")

    with pytest.raises(DetectionFailed, match="there is no network namespace"):
        await detector.probe(str(gone), DUAL, CONFLICTS)
    detector.announce_later(str(gone), DUAL)
    await detector.close()

    assert not gone.exists()


async def test_a_namespace_that_vanishes_meanwhile_ends_the_look_in_time(
    link: Link, detector: Detector
) -> None:
    pod = link.station()
    looking = asyncio.ensure_future(detector.probe(pod.netns, DUAL, BOTH))
    await asyncio.sleep(0)
    ip("-n", Path(pod.netns).name, "link", "delete", "eth0")

    (end,) = await asyncio.gather(looking, return_exceptions=True)

    assert isinstance(end, DetectionFailed) or end == DetectionResult((), ("10.6.0.1", "fd00:6::1"))


@joins_packet_groups
async def test_a_cancelled_look_leaves_no_socket_open(link: Link, detector: Detector) -> None:
    pod = link.station()
    before = open_sockets()

    for _ in range(5):
        looking = asyncio.ensure_future(detector.probe(pod.netns, DUAL, BOTH))
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await detector.probe(pod.netns, DUAL, CONFLICTS)
    await detector.close()

    assert open_sockets() - before == set()


@joins_packet_groups
async def test_threads_stay_in_the_agents_own_namespace(link: Link, detector: Detector) -> None:
    pod = link.station()
    own = Path("/proc/thread-self/ns/net").readlink()

    await detector.probe(pod.netns, DUAL, CONFLICTS)

    assert Path("/proc/thread-self/ns/net").readlink() == own
    tasks = Path("/proc/self/task").iterdir()
    assert {(task / "ns/net").readlink() for task in tasks} == {own}


async def test_addresses_are_announced_on_the_link(
    link: Link, detector: Detector, listener: socket.socket, heard_by: Station
) -> None:
    pod = link.station()

    detector.announce_later(pod.netns, DUAL)
    await detector.close()

    mac = bytes.fromhex(pod.mac.replace(":", ""))
    six = socket.inet_pton(socket.AF_INET6, "fd00:6::11")
    wanted: list[object] = [
        arp_announcement(mac, socket.inet_aton("10.6.0.17")),
        Advertisement(six, ALL_NODES, six, mac, override=True),
        Solicitation(six, six, mac),
    ]
    heard: list[object] = []
    while not all(frame in heard for frame in wanted):
        frame = listener.recv(2048)
        message = decode_message(frame)
        heard.append(message.message if message else decode_arp(frame))

    assert [each for each in heard if each in wanted] == wanted


async def test_announcing_moves_what_neighbours_remember(link: Link, detector: Detector) -> None:
    neighbour = link.station("10.6.0.99/24", "fd00:6::99/64")
    name = Path(neighbour.netns).name
    for address in ("10.6.0.17", "fd00:6::11"):
        stale = ("lladdr", "02:00:00:00:aa:aa", "dev", "eth0", "nud", "stale")
        ip("-n", name, "neighbour", "add", address, *stale)
    set_inside(neighbour, "net/ipv4/neigh/eth0/locktime", "0")
    pod = link.station()

    detector.announce_later(pod.netns, DUAL)
    await detector.close()

    known = ip("-n", name, "neighbour", "show")
    assert f"10.6.0.17 dev eth0 lladdr {pod.mac}" in known
    assert f"fd00:6::11 dev eth0 lladdr {pod.mac}" in known


def set_inside(station: Station, sysctl: str, value: str) -> None:
    write = f"printf {value} >/proc/sys/{sysctl}"
    inside = ["nsenter", f"--net={station.netns}", "--", "sh", "-c", write]
    subprocess.run(inside, check=True)


def open_sockets() -> set[str]:
    """Open sockets of this process, of any kind."""
    return {one for one in open_descriptors() if " socket:" in one}
