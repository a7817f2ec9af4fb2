"""The time of conflict detection, with and without a conflicting host.

A conflicting host has the address of the Pod; here it has the addresses ``TAKEN``. Without a
conflicting host, a detection lasts a fixed window (``CONFLICT_WINDOW_S``), and the figure is the
elapsed time minus the window.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from core.domain.model import Nic
from nodeagent.conflict_detection.detector import DetectionSwitches, Detector
from nodeagent.conflict_detection.probe_schedule import CONFLICT_WINDOW_S
from nodeagent.netlink.namespaces import NetnsExecutor
from tests.support.link import Link

UNIQUE = Nic("eth0", "10.6.0.17/24", ipv6="fd00:6::11/64")
TAKEN = Nic("eth0", "10.6.0.99/24", ipv6="fd00:6::99/64")
CONCURRENT = 32
DETECTIONS = 5

SWITCHES = DetectionSwitches(conflicts=True, announce=True)


def measure(lab: Lab) -> list[Figure]:
    """Measure look_over_window_ms, look_stranger_ms and look_32_over_window_ms.

    These published names call a detection ``look`` and a conflicting host ``stranger``.
    """
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
    conflicts: list[float] = []
    many: list[float] = []
    window_ms = CONFLICT_WINDOW_S * 1_000
    try:
        for _ in lab.rounds():
            unique = [await _detect(detector, netns, UNIQUE) for _ in range(DETECTIONS)]
            lone.append(median(unique) - window_ms)
            conflicts.append(
                median([await _detect(detector, netns, TAKEN) for _ in range(DETECTIONS)])
            )
            detections = (_detect(detector, netns, UNIQUE) for _ in range(CONCURRENT))
            many.append(median(await asyncio.gather(*detections)) - window_ms)
    finally:
        await detector.close()
        executor.close()
    note = f"both families; the window itself is {window_ms:g} ms"
    return [
        median_figure("look_over_window_ms", lone, "ms", note=note),
        median_figure("look_stranger_ms", conflicts, "ms", note="a host has both addresses"),
        median_figure("look_32_over_window_ms", many, "ms", note=f"{CONCURRENT} concurrent"),
    ]


async def _detect(detector: Detector, netns: str, nic: Nic) -> float:
    started = time.perf_counter()
    await detector.probe(netns, nic, SWITCHES)
    return (time.perf_counter() - started) * 1_000
