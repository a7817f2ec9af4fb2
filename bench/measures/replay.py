"""How fast the log is replayed from etcd: read and decoded, and besides folded into the state.

``replay_rate`` counts events as a reader gets them, in order and decoded; what it does with them
is its own. Folding all of them is what a rebuild or ``verify`` does: ``replay_state_rate``.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import NamedTuple

from bench.figures import Figure, median_figure
from bench.measures.logs import PER_SEGMENT, log_of
from bench.rig.lab import Lab
from core.archive.files import LocalFiles
from core.archive.replay import decoded, open_log
from core.domain.evolution import Ledger
from tests.support.etcd import EtcdCluster


class Pass(NamedTuple):
    """Seconds of one replay, by what they were spent on."""

    read_s: float
    decode_s: float
    fold_s: float
    events: int

    def rate(self, seconds: float) -> float:
        """Events a second if that were all."""
        return self.events / seconds


def measure(lab: Lab) -> list[Figure]:
    """replay_rate, replay_state_rate."""
    with lab.etcd(log_of(lab)) as etcd:
        passes = [asyncio.run(_replay(lab, etcd)) for _ in lab.rounds()]
    replayed = [one.rate(one.read_s + one.decode_s) for one in passes]
    whole = [one.rate(one.read_s + one.decode_s + one.fold_s) for one in passes]
    parts = {
        "read": [one.rate(one.read_s) for one in passes],
        "decoded": [one.rate(one.decode_s) for one in passes],
        "folded": [one.rate(one.fold_s) for one in passes],
    }
    read, decode, fold = (f"{name} {median(rate):,.0f}/s" for name, rate in parts.items())
    note = f"{passes[0].events:,} events in segments of {PER_SEGMENT}; alone: {read}, {decode}"
    return [
        median_figure("replay_rate", replayed, "events/s", note=note),
        median_figure("replay_state_rate", whole, "events/s", note=f"{note}, {fold}"),
    ]


async def _replay(lab: Lab, etcd: EtcdCluster) -> Pass:
    async with lab.store(etcd) as store:
        view = await open_log(store, lab.keys, LocalFiles(lab.directory / "no-archive"))
        ledger = Ledger()
        read_s = decode_s = fold_s = 0.0
        events = 0
        mark = time.perf_counter()
        async for batch in view.batches():
            fetched = time.perf_counter()
            recorded = decoded(batch.segments)
            understood = time.perf_counter()
            ledger.apply_all(recorded)
            folded = time.perf_counter()
            read_s += fetched - mark
            decode_s += understood - fetched
            fold_s += folded - understood
            events += len(recorded)
            mark = folded
    assert events == lab.scale.events, events
    return Pass(read_s, decode_s, fold_s, events)
