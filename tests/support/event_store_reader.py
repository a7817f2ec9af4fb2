"""Reads the ledger and the log from etcd, for tests that run whole processes."""

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
    """Reads the cluster ``CLUSTER``; each call opens and closes an etcd client."""

    def __init__(self, endpoint: str) -> None:
        self._settings = EtcdSettings((endpoint,))

    def read_ledger(self) -> Ledger:
        return self._run(lambda store: read_ledger(store, Keys(CLUSTER)))

    def read_claims(self) -> dict[str, str]:
        """Claimed address -> the Pod that holds the address."""
        return {address: held.claim.pod for address, held in self.read_ledger().claims.items()}

    def find_violations(self) -> list[str]:
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
