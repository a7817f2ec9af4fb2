"""Detection on a link: what a look takes more than its window, and how soon a stranger is known.

A bridge with three stations in namespaces: the Pod, a stranger with both of its addresses, and
a Pod whose addresses nobody has. Both families are asked at once, as an ADD does.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from core.domain.model import Nic
from nodeagent.conflict_detection.detector import DetectionSwitches, Detector
from nodeagent.conflict_detection.probe_session import CONFLICT_WINDOW_S
from nodeagent.netlink.namespaces import NetnsExecutor
from tests.support.link import Link

FREE = Nic("eth0", "10.6.0.17/24", ipv6="fd00:6::11/64")
TAKEN = Nic("eth0", "10.6.0.99/24", ipv6="fd00:6::99/64")
AT_ONCE = 32
LOOKS = 5
"""Of a lone caller in one round."""

SWITCHES = DetectionSwitches(conflicts=True, announce=True)


def measure(lab: Lab) -> list[Figure]:
    """look_over_window_ms, look_stranger_ms, look_32_over_window_ms."""
    link = Link()
    try:
        link.station("10.6.0.99/24", "fd00:6::99/64")
        return asyncio.run(_measure(lab, link.station().netns))
    finally:
        link.remove()


async def _measure(lab: Lab, netns: str) -> list[Figure]:
    executor = NetnsExecutor()
    detector = Detector(executor)
    lone: list[float] = []
    found: list[float] = []
    many: list[float] = []
    window_ms = CONFLICT_WINDOW_S * 1_000
    try:
        for _ in lab.rounds():
            free = [await _look(detector, netns, FREE) for _ in range(LOOKS)]
            lone.append(median(free) - window_ms)
            found.append(median([await _look(detector, netns, TAKEN) for _ in range(LOOKS)]))
            looks = (_look(detector, netns, FREE) for _ in range(AT_ONCE))
            many.append(median(await asyncio.gather(*looks)) - window_ms)
    finally:
        await detector.close()
        executor.close()
    note = f"both families; the window itself is {window_ms:g} ms"
    return [
        median_figure("look_over_window_ms", lone, "ms", note=note),
        median_figure("look_stranger_ms", found, "ms", note="both addresses are a stranger's"),
        median_figure("look_32_over_window_ms", many, "ms", note=f"{AT_ONCE} looks at once"),
    ]


async def _look(detector: Detector, netns: str, nic: Nic) -> float:
    """The milliseconds of one look."""
    started = time.perf_counter()
    await detector.probe(netns, nic, SWITCHES)
    return (time.perf_counter() - started) * 1_000
