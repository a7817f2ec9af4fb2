"""Checks log and state keys after the incidents."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.evolution import Ledger
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.state_reader import read_ledger
from tests.support.checked_log import log_violations


class Consistency(NamedTuple):
    """The result of the check, and the sizes of the data.

    ``violations``: violated invariants in the log. ``leaked``: the difference between the claims
    and the expected number. ``differing``: claims and endpoints that differ between log and state
    keys (invariant I5, docs/contributing/architecture.md). ``claim_bytes``, ``endpoint_bytes``:
    mean size of key and value together.
    """

    segments: int
    events: int
    segment_bytes: int
    claims: int
    claim_bytes: float
    endpoint_bytes: float
    violations: int
    leaked: int
    differing: int

    @property
    def faults(self) -> int:
        """The number of violations, leaks and differences."""
        return self.violations + self.leaked + self.differing


async def check_consistency(store: KeyValueStore, keys: Keys, expected: int) -> Consistency:
    """Check log and state keys; ``expected``: the number of claims."""
    segments, _ = await LogReader(store, keys).catch_up(LOG_START)
    events = [event for segment in segments for event in segment.events()]
    from_log, from_state = Ledger().apply_all(events), await read_ledger(store, keys)
    differing = len(from_log.claims.items() ^ from_state.claims.items())
    differing += sum(
        from_log.endpoints.get(key) != from_state.endpoints.get(key)
        for key in from_log.endpoints.keys() | from_state.endpoints.keys()
    )
    return Consistency(
        segments=len(segments),
        events=len(events),
        segment_bytes=sum(len(segment.data) for segment in segments),
        claims=len(from_state.claims),
        claim_bytes=await _mean_bytes(store, keys, "ip"),
        endpoint_bytes=await _mean_bytes(store, keys, "endpoint"),
        violations=len(list(log_violations(events))),
        leaked=abs(len(from_state.claims) - expected),
        differing=differing,
    )


async def _mean_bytes(store: KeyValueStore, keys: Keys, scope: str) -> float:
    kvs = (await store.read([Get(*keys.range_of(scope))])).ranges[0].kvs
    return sum(len(kv.key) + len(kv.value) for kv in kvs) / max(len(kvs), 1)
