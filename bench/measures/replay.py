"""The rate of replaying the log, in events per second.

``replay_rate``: reading, verifying and decoding events in order. ``replay_live_rate``: the same for
the events in etcd. ``replay_state_rate``: also applying them to a ledger, as a rebuild or
``verify`` does.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import NamedTuple

from bench.figures import Figure, median_figure
from bench.measures.logs import PER_SEGMENT, SeededLog, long_log
from bench.rig.lab import Lab
from core.archive.replay import open_log
from core.domain.evolution import Ledger
from tests.support.etcd import EtcdCluster


class Part(NamedTuple):
    """A number of events, and the seconds to read, decode and apply them."""

    events: int = 0
    read_s: float = 0.0
    decode_s: float = 0.0
    apply_s: float = 0.0

    def plus(self, other: Part) -> Part:
        """The sum of two parts."""
        return Part(
            self.events + other.events,
            self.read_s + other.read_s,
            self.decode_s + other.decode_s,
            self.apply_s + other.apply_s,
        )

    @property
    def rate(self) -> float:
        """Events read and decoded per second."""
        return self.events / (self.read_s + self.decode_s)

    @property
    def state_rate(self) -> float:
        """Events read, decoded and applied per second."""
        return self.events / (self.read_s + self.decode_s + self.apply_s)


class _Laps:
    """A stopwatch whose laps follow each other, so that their sum is the total time."""

    def __init__(self) -> None:
        self._mark = time.perf_counter()

    def __call__(self) -> float:
        """Seconds since the last call."""
        before, self._mark = self._mark, time.perf_counter()
        return self._mark - before


class Replay(NamedTuple):
    """One replay of the whole log."""

    sealed: Part
    live: Part

    @property
    def whole(self) -> Part:
        """Archive and live log together."""
        return self.sealed.plus(self.live)


def measure(lab: Lab) -> list[Figure]:
    """replay_rate, replay_live_rate, replay_state_rate."""
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        replays = [asyncio.run(_replay(lab, etcd, log)) for _ in lab.rounds()]
    whole = [replay.whole for replay in replays]
    sealed, live = replays[0].sealed.events, replays[0].live.events
    alone = {
        "read": median(part.events / part.read_s for part in whole),
        "decoded": median(part.events / part.decode_s for part in whole),
        "applied": median(part.events / part.apply_s for part in whole),
    }
    sizes = f"{sealed:,} archived and {live:,} live events, {PER_SEGMENT} a segment"
    rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in alone.items())
    return [
        median_figure("replay_rate", [part.rate for part in whole], "events/s", note=sizes),
        median_figure(
            "replay_live_rate",
            [replay.live.rate for replay in replays],
            "events/s",
            note=f"the {live:,} events that are in etcd",
        ),
        median_figure(
            "replay_state_rate",
            [part.state_rate for part in whole],
            "events/s",
            note=f"applied too; each alone: {rates}",
        ),
    ]


async def _replay(lab: Lab, etcd: EtcdCluster, log: SeededLog) -> Replay:
    async with lab.store(etcd) as store:
        view = await open_log(store, lab.keys, log.files)
        ledger = Ledger()
        sealed = live = Part()
        lap = _Laps()
        async for batch in view.batches():
            part = Part(read_s=lap())
            for segment in batch.segments:
                recorded = segment.events()
                decode_s = lap()
                ledger.apply_all(recorded)
                part = part.plus(Part(len(recorded), 0.0, decode_s, lap()))
            if batch.segments[-1].position <= view.sealed.cursor.position:
                sealed = sealed.plus(part)
            else:
                live = live.plus(part)
    assert sealed.events + live.events == lab.scale.events, (sealed, live)
    return Replay(sealed, live)
