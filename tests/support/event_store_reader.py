"""Reads the state keys and the log directly from etcd, and checks the invariants.

For tests that run whole processes. Each call opens and closes an etcd client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from core.domain.evolution import Ledger
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.state_reader import read_ledger
from tests.support.checked_log import log_violations

T = TypeVar("T")
CLUSTER: Final = "default"


class EventStoreReader:
    """Reads the state keys and the log of the cluster ``CLUSTER`` from one etcd."""

    def __init__(self, endpoint: str) -> None:
        self._settings = EtcdSettings((endpoint,))

    def read_ledger(self) -> Ledger:
        """Read the state keys into a ledger."""
        return self._run(lambda store: read_ledger(store, Keys(CLUSTER)))

    def read_claims(self) -> dict[str, str]:
        """Claimed address -> the Pod that holds the address."""
        return {address: held.claim.pod for address, held in self.read_ledger().claims.items()}

    def find_violations(self) -> list[str]:
        """Return all violations of invariants in the log."""
        return self._run(_find_violations)

    def _run(self, read: Callable[[EtcdStore], Awaitable[T]]) -> T:
        async def read_once() -> T:
            store = EtcdStore(self._settings)
            try:
                return await read(store)
            finally:
                await store.close()

        return asyncio.run(read_once())


async def _find_violations(store: EtcdStore) -> list[str]:
    segments, _ = await LogReader(store, Keys(CLUSTER)).catch_up(LOG_START)
    events = [event for segment in segments for event in segment.events()]
    assert events, "the log has no events"
    return [str(violation) for violation in log_violations(events)]
