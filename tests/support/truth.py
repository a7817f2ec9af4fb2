"""Reads state and log directly from etcd, and checks the invariants.

For tests of whole processes. Each call opens its own client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from core.domain.checker import check_log
from core.domain.evolution import Ledger
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.log import START, LogReader
from core.eventstore.state import read_ledger

T = TypeVar("T")
CLUSTER: Final = "default"


class Truth:
    """State and log of one etcd."""

    def __init__(self, endpoint: str) -> None:
        self._settings = EtcdSettings((endpoint,))

    def ledger(self) -> Ledger:
        """The state keys as a ledger."""
        return self._ask(lambda store: read_ledger(store, Keys(CLUSTER)))

    def claims(self) -> dict[str, str]:
        """Address -> the Pod that holds it."""
        return {address: held.claim.pod for address, held in self.ledger().claims.items()}

    def violations(self) -> list[str]:
        """The violations of invariants in the whole log."""
        return self._ask(_violations)

    def _ask(self, question: Callable[[EtcdStore], Awaitable[T]]) -> T:
        async def ask() -> T:
            store = EtcdStore(self._settings)
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(ask())


async def _violations(store: EtcdStore) -> list[str]:
    segments, _ = await LogReader(store, Keys(CLUSTER)).catch_up(START)
    events = [event for segment in segments for event in segment.events()]
    assert events, "an empty log proves nothing"
    return [str(violation) for violation in check_log(events)]
