"""Detection for an ipvlan, which receives unicast answers only when it has the address.

It shares its master's hardware address, and the kernel distinguishes ipvlans by IP address, so the
master sends the probes. The kernels of test machines often lack ipvlan.
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

BOTH = DetectionSwitches(conflicts=True, gateway=True, announce=True)
NIC = Nic("eth0", "10.6.0.17/24", "v4", "10.6.0.1", "fd00:6::11/64", "v6", "fd00:6::1")


def ipvlan_on(node: Station, link: Link) -> Station:
    """A Pod whose eth0 is an ipvlan on the node's eth0."""
    pod = link.station()
    inside, name = Path(pod.netns).name, Path(node.netns).name
    ip("-n", inside, "link", "delete", "eth0")
    child = ("link", "eth0", "name", "child0", "netns", inside, "type", "ipvlan", "mode", "l2")
    ip("-n", name, "link", "add", *child)
    ip("-n", inside, "link", "set", "child0", "name", "eth0")
    return Station(pod.netns, node.mac)


async def test_a_free_address_with_a_gateway_that_answers_is_free(link: Link) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    node = link.station("10.6.0.2/24")
    pod = ipvlan_on(node, link)

    async with detecting_on(node) as detector:
        assert await detector.probe(pod.netns, NIC, BOTH) == DetectionResult()


async def test_strangers_are_found_through_the_master(link: Link) -> None:
    link.station("10.6.0.1/24", "fd00:6::1/64")
    stranger = link.station("10.6.0.17/24", "fd00:6::11/64")
    node = link.station("10.6.0.2/24")
    pod = ipvlan_on(node, link)

    async with detecting_on(node) as detector:
        found = await detector.probe(pod.netns, NIC, BOTH)

    assert found == DetectionResult(
        (
            ConflictingAddress("10.6.0.17", stranger.mac),
            ConflictingAddress("fd00:6::11", stranger.mac),
        )
    )


async def test_a_master_that_is_not_on_this_node_is_a_failure(
    link: Link, detector: Detector
) -> None:
    """As for a node in another namespace than the agent's: no other NIC must be probed."""
    pod = ipvlan_on(link.station(), link)

    with pytest.raises(DetectionFailed, match="master"):
        await detector.probe(pod.netns, NIC, BOTH)
