"""The time of a history query for one address in a long log (``bench.measures.logs``).

Each query starts without a cache.
"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import mean, median

from bench.figures import Figure, median_figure
from bench.measures.logs import SeededLog, long_log, unit_ms
from bench.rig.lab import Lab
from core.archive.replay import open_log
from core.audit.history import read_history
from core.audit.history_entries import HistorySubject
from tests.core.archive.synthetic import address_of
from tests.support.etcd import EtcdCluster

QUERIES = 10

ADDRESSES_MAX = 65_536
"""Addresses from which queries choose."""

EVENTS_PER_ADDRESS = 3
"""The events of a log claim at least one address per ``EVENTS_PER_ADDRESS`` events."""

SEED = 1


def measure(lab: Lab) -> list[Figure]:
    """Measure history_1m_ms."""
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        samples, note = asyncio.run(_measure(lab, etcd, log))
    return [median_figure("history_1m_ms", samples, unit_ms(lab), note=note)]


async def _measure(lab: Lab, etcd: EtcdCluster, log: SeededLog) -> tuple[list[float], str]:
    rng = random.Random(SEED)
    count = min(ADDRESSES_MAX, lab.scale.events // EVENTS_PER_ADDRESS)
    samples: list[float] = []
    entry_counts: list[int] = []
    async with lab.store(etcd) as store:
        for _ in lab.rounds():
            durations_ms = []
            for _ in range(QUERIES):
                subject = HistorySubject("address", address_of(rng.randrange(count)))
                began = time.perf_counter()
                view = await open_log(store, lab.keys, log.files)
                history = await read_history(view, subject)
                durations_ms.append((time.perf_counter() - began) * 1e3)
                entry_counts.append(len(history.entries))
            samples.append(median(durations_ms))
        sealed = (await open_log(store, lab.keys, log.files)).sealed
    assert min(entry_counts), "an address has no history"
    archived = sum(summary.events for summary in sealed.summaries())
    return samples, (
        f"{archived:,} events in {sealed.cursor.files} archive files,"
        f" {lab.scale.events - archived:,} live; {mean(entry_counts):.1f} entries per address"
    )
