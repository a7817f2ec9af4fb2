"""The rate of replaying the log, in events per second.

``replay_rate``: reading, verifying and decoding all events. ``replay_live_rate``: only the events
in etcd. ``replay_state_rate``: all events, which are also applied to a ledger.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import NamedTuple

from bench.figures import Figure, median_figure
from bench.measures.logs import EVENTS_PER_SEGMENT, SeededLog, long_log
from bench.rig.lab import Lab
from core.archive.replay import open_log
from core.domain.evolution import Ledger
from tests.support.etcd import EtcdCluster


class Timing(NamedTuple):
    """A number of events, and the seconds to read, decode and apply them."""

    events: int = 0
    read_s: float = 0.0
    decode_s: float = 0.0
    apply_s: float = 0.0

    def plus(self, other: Timing) -> Timing:
        """The sum of two timings."""
        return Timing(
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


class _Stopwatch:
    """A stopwatch."""

    def __init__(self) -> None:
        self._mark = time.perf_counter()

    def __call__(self) -> float:
        """Seconds since the last call."""
        before, self._mark = self._mark, time.perf_counter()
        return self._mark - before


class Replay(NamedTuple):
    """The timings of one replay. ``sealed``: of archived events. ``live``: of events in etcd."""

    sealed: Timing
    live: Timing

    @property
    def whole(self) -> Timing:
        """The timing of all events."""
        return self.sealed.plus(self.live)


def measure(lab: Lab) -> list[Figure]:
    """Measure replay_rate, replay_live_rate and replay_state_rate."""
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        replays = [asyncio.run(_replay(lab, etcd, log)) for _ in lab.rounds()]
    whole = [replay.whole for replay in replays]
    sealed, live = replays[0].sealed.events, replays[0].live.events
    step_rates = {
        "reading": median(timing.events / timing.read_s for timing in whole),
        "decoding": median(timing.events / timing.decode_s for timing in whole),
        "applying": median(timing.events / timing.apply_s for timing in whole),
    }
    sizes = f"{sealed:,} archived and {live:,} live events, {EVENTS_PER_SEGMENT} a segment"
    rates = ", ".join(f"{step} {rate:,.0f}/s" for step, rate in step_rates.items())
    return [
        median_figure("replay_rate", [timing.rate for timing in whole], "events/s", note=sizes),
        median_figure(
            "replay_live_rate",
            [replay.live.rate for replay in replays],
            "events/s",
            note=f"the {live:,} events that are in etcd",
        ),
        median_figure(
            "replay_state_rate",
            [timing.state_rate for timing in whole],
            "events/s",
            note=f"each step alone: {rates}",
        ),
    ]


async def _replay(lab: Lab, etcd: EtcdCluster, log: SeededLog) -> Replay:
    async with lab.store(etcd) as store:
        view = await open_log(store, lab.keys, log.files)
        ledger = Ledger()
        sealed = live = Timing()
        lap = _Stopwatch()
        async for batch in view.batches():
            timing = Timing(read_s=lap())
            for segment in batch.segments:
                events = segment.events()
                decode_s = lap()
                ledger.apply_all(events)
                timing = timing.plus(Timing(len(events), 0.0, decode_s, apply_s=lap()))
            if batch.segments[-1].position <= view.sealed.cursor.position:
                sealed = sealed.plus(timing)
            else:
                live = live.plus(timing)
    assert sealed.events + live.events == lab.scale.events, (sealed, live)
    return Replay(sealed, live)
