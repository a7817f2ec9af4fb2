"""The time to compute a past state from a long log: the console's overview and address grid.

``as_of_cold_s``: the time to build the index of the log and the first overview and grid.
``as_of_1m_ms``: the time of a later overview and grid; 1m is a million events.
"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import median

import msgspec

from bench.figures import Figure, median_figure
from bench.measures.logs import SeededLog, long_log, unit_ms
from bench.rig.lab import Lab
from ops.console.console_data import ConsoleSource
from ops.console.grid import CELLS_DEFAULT, grid
from ops.console.overview import overview
from tests.core.archive.synthetic import BIG_POOL
from tests.support.etcd import EtcdCluster
from tests.support.memory import column_bytes

INSTANTS_A_ROUND = 10

SEED = 1


def measure(lab: Lab) -> list[Figure]:
    """Measure as_of_1m_ms and as_of_cold_s."""
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        samples, cold_s, note = asyncio.run(_measure(lab, etcd, log))
    return [
        median_figure("as_of_1m_ms", samples, unit_ms(lab), note=note),
        median_figure("as_of_cold_s", [cold_s], f"s, of {lab.scale.events:,} events"),
    ]


async def _measure(lab: Lab, etcd: EtcdCluster, log: SeededLog) -> tuple[list[float], float, str]:
    rng = random.Random(SEED)
    samples: list[float] = []
    slowest = 0.0
    async with lab.store(etcd) as store:
        source = ConsoleSource(store, lab.keys, log.archive, cluster="bench")
        began = time.perf_counter()
        index = await source.log.newest()
        read_s = time.perf_counter() - began
        await _compute_views(source, rng.randrange(index.clock.first[0], index.position))
        cold_s = time.perf_counter() - began
        assert index.clock.events == lab.scale.events, "the index lacks events of the log"
        for _ in lab.rounds():
            durations_ms = []
            for _ in range(INSTANTS_A_ROUND):
                position = rng.randrange(index.clock.first[0], index.position)
                began = time.perf_counter()
                await _compute_views(source, position)
                durations_ms.append((time.perf_counter() - began) * 1e3)
            samples.append(median(durations_ms))
            slowest = max(slowest, *durations_ms)
    count = index.table(BIG_POOL.name).count_at(index.position)
    note = (
        f"slowest {slowest:.0f} ms; {count:,} allocated addresses; the index built in {read_s:.1f}"
        f" s, {column_bytes(index) / 1e6:.0f} MB"
    )
    return samples, cold_s, note


async def _compute_views(source: ConsoleSource, position: int) -> None:
    pools = source.pools(await source.instant(str(position)))
    answers = overview(pools, None), grid(pools, BIG_POOL.name, "", "", CELLS_DEFAULT)
    assert msgspec.json.encode(answers)
