"""Checks of the log and the state keys after the incidents: no duplicate address, no leak."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.checker import check_log
from core.domain.evolution import Ledger
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.log import START, LogReader
from core.eventstore.state import read_ledger


class Verdict(NamedTuple):
    """``violations`` of the invariants in the log; ``leaked``: claims that belong to no Pod.

    ``apart``: claims and endpoints of which log and state keys disagree (I5). ``claim_bytes``,
    ``endpoint_bytes``: key and value of one, on average.
    """

    segments: int
    events: int
    segment_bytes: int
    claims: int
    claim_bytes: float
    endpoint_bytes: float
    violations: int
    leaked: int
    apart: int

    @property
    def faults(self) -> int:
        """The number of violations, leaks and differences."""
        return self.violations + self.leaked + self.apart


async def judge(store: KeyValueStore, keys: Keys, expected: int) -> Verdict:
    """Read the whole log and the state; ``expected`` claims must be left."""
    segments, _ = await LogReader(store, keys).catch_up(START)
    events = [event for segment in segments for event in segment.events()]
    folded, truth = Ledger().apply_all(events), await read_ledger(store, keys)
    apart = len(folded.claims.items() ^ truth.claims.items())
    apart += sum(
        folded.endpoints.get(key) != truth.endpoints.get(key)
        for key in folded.endpoints.keys() | truth.endpoints.keys()
    )
    return Verdict(
        len(segments),
        len(events),
        sum(len(segment.data) for segment in segments),
        len(truth.claims),
        await _mean_bytes(store, keys, "ip"),
        await _mean_bytes(store, keys, "endpoint"),
        len(list(check_log(events))),
        abs(len(truth.claims) - expected),
        apart,
    )


async def _mean_bytes(store: KeyValueStore, keys: Keys, room: str) -> float:
    found = (await store.read([Get(*keys.range_of(room))])).ranges[0].kvs
    return sum(len(kv.key) + len(kv.value) for kv in found) / max(len(found), 1)
