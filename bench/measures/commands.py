"""The time to create a pool among few and among many other pools, and the time to import pools.

All pools are ranges of one CIDR, so that each command must check for overlaps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.figures import Figure, median_figure, ratio_figure
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import slices
from core.configuration.configurator import Configurator
from core.configuration.indexer import build_index
from core.domain.configuration.commands import ApplyPool
from core.domain.events import Cause
from core.domain.model import Pool
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from tests.support.etcd import EtcdCluster

FEW_POOLS = 100
"""Pools of the smaller cluster; the larger cluster has ``lab.scale.objects``."""

COMMANDS_A_ROUND = 40

IMPORTED_POOLS = 10_000
"""The measured time of an import is scaled to this number of pools."""

CAUSE = Cause("bench")


def measure_scale(lab: Lab) -> list[Figure]:
    """Measure command_scale_ratio."""
    many = lab.scale.objects
    with (
        lab.etcd(_seed(lab, FEW_POOLS)) as small,
        lab.etcd(_seed(lab, many)) as large,
    ):
        ratios = asyncio.run(_compare(lab, small, large))
    note = f"the median time to create a pool among {many:,} others of the same CIDR"
    return [
        ratio_figure("command_scale_ratio", ratios, f"the median time among {FEW_POOLS:,}", note)
    ]


def measure_import(lab: Lab) -> list[Figure]:
    """Measure import_10k_s."""
    count = lab.scale.imported
    durations_s: list[float] = []
    for _ in lab.rounds():
        with lab.etcd() as etcd:
            durations_s.append(asyncio.run(_import(lab, etcd, count)) * IMPORTED_POOLS / count)
    note = f"commands one after the other, as `orbctl apply` does; measured with {count:,} pools"
    return [median_figure("import_10k_s", durations_s, "s", note=note)]


def _seed(lab: Lab, count: int) -> Path:
    async def fill(store: KeyValueStore, keys: Keys) -> None:
        await SeedWriter(store, keys, controller_writer("seed")).define(slices(0, count))
        await build_index(store, keys, "pools", 4)

    return lab.seed(f"{count} pools of one CIDR", fill)


async def _compare(lab: Lab, small: EtcdCluster, large: EtcdCluster) -> list[float]:
    ratios: list[float] = []
    async with _configurator(lab, small) as few, _configurator(lab, large) as many:
        first = lab.scale.objects
        for number in lab.rounds():
            pools = slices(first + number * COMMANDS_A_ROUND, COMMANDS_A_ROUND)
            turns = (few, many) if number % 2 else (many, few)
            durations_s = {
                configurator: median(await _apply(configurator, pools)) for configurator in turns
            }
            ratios.append(durations_s[many] / durations_s[few])
    return ratios


async def _import(lab: Lab, etcd: EtcdCluster, count: int) -> float:
    async with _configurator(lab, etcd) as configurator:
        return sum(await _apply(configurator, slices(0, count)))


async def _apply(configurator: Configurator, pools: list[Pool]) -> list[float]:
    """Apply the pools sequentially; return the seconds of each command."""
    durations_s: list[float] = []
    for pool in pools:
        began = time.perf_counter()
        await configurator.apply(ApplyPool(pool), CAUSE)
        durations_s.append(time.perf_counter() - began)
    return durations_s


@asynccontextmanager
async def _configurator(lab: Lab, etcd: EtcdCluster) -> AsyncIterator[Configurator]:
    async with lab.store(etcd) as store:
        writer = Writer(store, lab.keys, controller_writer("bench"))
        await writer.open()
        yield Configurator(store, lab.keys, writer)
        await writer.close()
