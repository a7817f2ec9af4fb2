"""The time to plan the virtual functions of a large node, which has two policies for each NIC."""

from __future__ import annotations

import time

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from core.domain.sriov.model import NicName, NicSelector, NodePolicy, PhysicalFunction, VfRange
from core.domain.sriov.vf_plan import plan_node

NICS = 8
VFS = 16
HALF = VFS // 2

PLANS = 5
"""Plans in one round; the shortest time counts."""


def measure(lab: Lab) -> list[Figure]:
    """Measure sriov_plan_ms."""
    nics = [_nic(number) for number in range(NICS)]
    policies = [
        _policy(number, vfs)
        for number in range(NICS)
        for vfs in (VfRange(0, HALF - 1), VfRange(HALF, VFS - 1))
    ]
    samples = [min(_plan_ms(policies, nics) for _ in range(PLANS)) for _ in lab.rounds()]
    steps = len(plan_node(policies, {}, nics).actions)
    note = f"{NICS} NICs, {VFS} virtual functions each: {steps} steps"
    return [median_figure("sriov_plan_ms", samples, "ms", note=note)]


def _plan_ms(policies: list[NodePolicy], nics: list[PhysicalFunction]) -> float:
    began = time.perf_counter()
    plan_node(policies, {}, nics)
    return (time.perf_counter() - began) * 1_000


def _nic(number: int) -> PhysicalFunction:
    mac = f"0c:42:a1:00:00:{number:02x}"
    return PhysicalFunction(f"rail{number}", f"0000:{number:02x}:00.0", mac=mac, vfs_max=VFS)


def _policy(number: int, vfs: VfRange) -> NodePolicy:
    name = f"rail{number}-{vfs}"
    nics = NicSelector((NicName(f"rail{number}", vfs),))
    return NodePolicy(name, resource=name, vfs=VFS, nics=nics, mtu=9_000, is_rdma=True)
