"""Detect a dead peer: send a PING when no data has arrived for a while.

Pings are sent only while a call is in flight: etcd closes the connection of a client that pings
without a call, or more often than every 5 s. A connection that regularly receives data is not
pinged.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from core.eventstore.etcd.settings import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S

SLACK_S: Final = 0.25
"""Added to ``KEEPALIVE_S``, so that data sent at this interval arrives before a check."""


class Peer(Protocol):
    """A connection. ``is_busy``: whether a call is in flight."""

    @property
    def is_busy(self) -> bool: ...

    def ping(self) -> None: ...

    def on_silence(self, seconds: float) -> None:
        """A PING was not answered within ``seconds``."""


class Keepalive:
    """The timer of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Peer) -> None:
        self._loop = loop
        self._peer = peer
        self._timer: asyncio.TimerHandle | None = None
        self._received_at = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since data was received."""
        return time.monotonic() - self._received_at

    def start(self) -> None:
        """Detect silence until no call is in flight."""
        if self._timer is None:
            self._received_at = time.monotonic()
            self._check_in(KEEPALIVE_S)

    def stop(self) -> None:
        """Stop the detection."""
        if self._timer is not None:
            self._timer.cancel()

    def on_received(self) -> None:
        """Note that data has arrived."""
        self._received_at = time.monotonic()

    def _check_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds + SLACK_S, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._peer.is_busy:
            return
        remaining_s = KEEPALIVE_S - self.silent_s
        if remaining_s > 0:
            self._check_in(remaining_s)
        else:
            self._peer.ping()
            self._timer = self._loop.call_later(
                KEEPALIVE_TIMEOUT_S, self._check_answer, self._received_at
            )

    def _check_answer(self, received_at: float) -> None:
        if self._received_at == received_at:
            self._peer.on_silence(KEEPALIVE_TIMEOUT_S)
        else:
            self._check_in(KEEPALIVE_S - KEEPALIVE_TIMEOUT_S)
