"""The time of a history query of one address in a long log; nine tenths of the log are archived.

Each query starts without a cache: it reads the cursor, opens files, and finds blocks with the
index. The start of ``orbctl`` is not included.
"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import mean, median

from bench.figures import Figure, median_figure
from bench.measures.logs import SeededLog, long_log, milliseconds
from bench.rig.lab import Lab
from core.archive.replay import open_log
from core.audit.history import read_history
from core.audit.history_entries import HistorySubject
from tests.core.archive.synthetic import address_of
from tests.support.etcd import EtcdCluster

QUERIES = 10
"""Queries in one round."""

ADDRESSES = 65_536
"""Addresses in a long log; ``address_of`` repeats them."""

EVENTS_AN_ADDRESS = 3
"""The largest number of events of an address; a short log has fewer addresses."""

SEED = 1


def measure(lab: Lab) -> list[Figure]:
    """history_1m_ms."""
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        samples, note = asyncio.run(_measure(lab, etcd, log))
    return [median_figure("history_1m_ms", samples, milliseconds(lab), note=note)]


async def _measure(lab: Lab, etcd: EtcdCluster, log: SeededLog) -> tuple[list[float], str]:
    rng = random.Random(SEED)
    count = min(ADDRESSES, lab.scale.events // EVENTS_AN_ADDRESS)
    samples: list[float] = []
    entries: list[int] = []
    async with lab.store(etcd) as store:
        for _ in lab.rounds():
            durations_ms = []
            for _ in range(QUERIES):
                subject = HistorySubject("address", address_of(rng.randrange(count)))
                began = time.perf_counter()
                view = await open_log(store, lab.keys, log.files)
                answer = await read_history(view, subject)
                durations_ms.append((time.perf_counter() - began) * 1e3)
                entries.append(len(answer.entries))
            samples.append(median(durations_ms))
        sealed = (await open_log(store, lab.keys, log.files)).sealed
    assert min(entries), "an address has no history"
    archived = sum(summary.events for summary in sealed.summaries())
    return samples, (
        f"{archived:,} events in {sealed.cursor.files} archive files,"
        f" {lab.scale.events - archived:,} live; {mean(entries):.1f} holdings an address"
    )
