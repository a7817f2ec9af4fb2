"""Whether the other end still lives: a PING when nothing has arrived for a while.

Only while a call is under way: etcd closes connections of clients that ping without one, or oftener
than every 5 s. A connection on which something arrives regularly, as a watch's progress does, is
never pinged. One timer a connection, which received data do not reset: when it fires, it checks the
time of the last data.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from core.eventstore.etcd.settings import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S

SLACK_S: Final = 0.25
"""Slightly late, so that an answer every ``KEEPALIVE_S`` arrives before the check."""


class Peer(Protocol):
    """The connection, as its keepalive needs it."""

    @property
    def is_busy(self) -> bool:
        """Whether a call is in flight."""

    def ping(self) -> None:
        """Send a PING."""

    def on_silence(self, seconds: float) -> None:
        """A PING was not answered in time."""


class Keepalive:
    """The timer of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Peer) -> None:
        self._loop = loop
        self._peer = peer
        self._timer: asyncio.TimerHandle | None = None
        self._received_at = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since something has arrived."""
        return time.monotonic() - self._received_at

    def start(self) -> None:
        """Check the connection while it is busy; no effect if that is done already."""
        if self._timer is None:
            self._received_at = time.monotonic()
            self._check_in(KEEPALIVE_S)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def on_received(self) -> None:
        """Something has arrived."""
        self._received_at = time.monotonic()

    def _check_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds + SLACK_S, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._peer.is_busy:
            return
        left_s = KEEPALIVE_S - self.silent_s
        if left_s > 0:
            self._check_in(left_s)
        else:
            self._peer.ping()
            self._timer = self._loop.call_later(KEEPALIVE_TIMEOUT_S, self._judge, self._received_at)

    def _judge(self, received_at: float) -> None:
        if self._received_at == received_at:
            self._peer.on_silence(KEEPALIVE_TIMEOUT_S)
        else:
            self._check_in(KEEPALIVE_S - KEEPALIVE_TIMEOUT_S)
