"""The detector probes the addresses of an ipvlan from the master of the ipvlan.

An ipvlan receives a unicast answer only at its own address, and has no address during a probe.

The fixture ``link`` is a bridge. A station is a network namespace with an eth0 on the bridge.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.model import Nic
from core.errors import DetectionFailed
from nodeagent.conflict_detection.detector import (
    ConflictingAddress,
    DetectionResult,
    DetectionSwitches,
    Detector,
)
from tests.nodeagent.conflict_detection.detectors import detecting_on
from tests.support.link import Link, Station, ip

pytestmark = pytest.mark.uml

CONFLICTS_AND_GATEWAY = DetectionSwitches(conflicts=True, gateway=True, announce=True)
NIC = Nic(
    "eth0",
    ipv4="10.6.0.17/24",
    ipv4_pool="v4",
    ipv4_gateway="10.6.0.1",
    ipv6="fd00:6::11/64",
    ipv6_pool="v6",
    ipv6_gateway="fd00:6::1",
)


def ipvlan_on(node: Station, link: Link) -> Station:
    """A Pod whose eth0 is an ipvlan on the node's eth0."""
    pod = link.station()
    pod_netns, node_netns = Path(pod.netns).name, Path(node.netns).name
    ip("-n", pod_netns, "link", "delete", "eth0")
    child = ("link", "eth0", "name", "child0", "netns", pod_netns, "type", "ipvlan", "mode", "l2")
    ip("-n", node_netns, "link", "add", *child)
    ip("-n", pod_netns, "link", "set", "child0", "name", "eth0")
    return Station(pod.netns, node.mac)


async def test_a_probe_finds_no_fault_if_addresses_are_unused_and_the_gateway_answers(
    link: Link,
) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    node = link.station("10.6.0.2/24")
    pod = ipvlan_on(node, link)

    async with detecting_on(node) as detector:
        assert await detector.probe(pod.netns, NIC, CONFLICTS_AND_GATEWAY) == DetectionResult()


async def test_conflicting_hosts_are_found_through_the_master(link: Link) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    conflicting_host = link.station("10.6.0.17/24", "fd00:6::11/64")
    node = link.station("10.6.0.2/24")
    pod = ipvlan_on(node, link)

    async with detecting_on(node) as detector:
        result = await detector.probe(pod.netns, NIC, CONFLICTS_AND_GATEWAY)

    assert result == DetectionResult(
        (
            ConflictingAddress("10.6.0.17", conflicting_host.mac),
            ConflictingAddress("fd00:6::11", conflicting_host.mac),
        )
    )


async def test_a_probe_fails_if_the_master_is_not_on_this_node(
    link: Link, detector: Detector
) -> None:
    """The fixture ``detector`` does not run in the namespace of the master."""
    pod = ipvlan_on(link.station(), link)

    with pytest.raises(DetectionFailed, match="master"):
        await detector.probe(pod.netns, NIC, CONFLICTS_AND_GATEWAY)
