"""The history of one address out of a long log, nine tenths of it archived, the rest in etcd.

Each answer starts from nothing: the cursor is read, files are opened, blocks are found by the
index. What starting ``orbctl`` costs is not in it.
"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import median

from bench.figures import Figure, median_figure
from bench.measures.logs import log_of
from bench.rig.lab import Lab
from core.archive.archiver import Archiver
from core.archive.files import LocalFiles
from core.archive.replay import open_log
from core.audit.facts import Subject
from core.audit.history import history
from tests.archive.synthetic import address_of
from tests.support.etcd import EtcdCluster

ARCHIVED_SHARE = 0.9
ASKED = 10
"""Addresses asked for in one round."""

SEED = 1


def measure(lab: Lab) -> list[Figure]:
    """history_1m_ms."""
    with lab.etcd(log_of(lab)) as etcd:
        samples, note = asyncio.run(_measure(lab, etcd))
    events = lab.scale.events
    unit = "ms" if events == 1_000_000 else f"ms, of {events:,} events instead of 1,000,000"
    return [median_figure("history_1m_ms", samples, unit, note=note)]


async def _measure(lab: Lab, etcd: EtcdCluster) -> tuple[list[float], str]:
    files = LocalFiles(lab.room("archive"))
    async with lab.store(etcd) as store:
        newest = (await open_log(store, lab.keys, files)).revision
        sealed = await Archiver(store, lab.keys, files).seal(int(newest * ARCHIVED_SHARE))
        rng = random.Random(SEED)
        samples: list[float] = []
        facts = 0
        for _ in lab.rounds():
            took = []
            for _ in range(ASKED):
                began = time.perf_counter()
                view = await open_log(store, lab.keys, files)
                found = await history(view, Subject("address", address_of(rng.randrange(65_536))))
                took.append((time.perf_counter() - began) * 1e3)
                assert found.facts, f"{found.subject} has no history"
                facts += len(found.facts)
            samples.append(median(took))
    live = lab.scale.events - sealed.events
    holdings = facts / len(samples) / ASKED
    return samples, (
        f"{sealed.events:,} events in {sealed.files} archive files, {live:,} live;"
        f" {holdings:.1f} holdings an address"
    )
