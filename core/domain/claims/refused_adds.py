"""Refused ADDs: the event of a refusal, and which refusals become events.

The runtime repeats a refused ADD. For each holder, NIC and reason, the first refusal becomes an
event immediately, and opens a window of a minute. Later refusals are counted, and become one event
when the window ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from core.domain.claims.claim_decisions import holder_of
from core.domain.events import AllocationRefused, Cause
from core.domain.request_facts import PodFacts
from core.domain.selection.error_texts import missing_pool_of
from core.domain.selection.selection_request import CandidateVerdict
from core.errors import (
    AddressConflict,
    AddressesUsedOut,
    AllocationError,
    DetectionFailed,
    GatewayUnreachable,
    NoPoolAvailable,
    PoolPending,
    RetriesExhausted,
    WrongInput,
)

WINDOW_S: Final = 60.0

WINDOWS_MAX: Final = 256

VERDICTS_MAX: Final = 48

MESSAGE_CHARS_MAX: Final = 1_000
"""Limit of a message, and of a remedy."""

_REASONS: Final[tuple[tuple[type[AllocationError], str], ...]] = (
    (PoolPending, "pool-pending"),
    (NoPoolAvailable, "no-pool"),
    (AddressesUsedOut, "used-out"),
    (WrongInput, "wrong-input"),
    (AddressConflict, "conflict"),
    (GatewayUnreachable, "gateway-unreachable"),
    (DetectionFailed, "detection-failed"),
    (RetriesExhausted, "retries-exhausted"),
)
"""A subclass comes before its base class."""

_MISSING_POOL: Final = "missing-pool"
_OTHER_REASON: Final = "other"


class RefusedAdd(NamedTuple):
    """An event to write, and the cause of the newest refusal that the event counts."""

    event: AllocationRefused
    cause: Cause


def refusal_of(pod: PodFacts, interface: str, error: AllocationError) -> AllocationRefused:
    """Build the event of one refused ADD."""
    verdicts = [verdict for verdict in error.verdicts if isinstance(verdict, CandidateVerdict)]
    return AllocationRefused(
        *pod.endpoint_key,
        pod.uid,
        pod.node,
        holder_of(pod),
        interface,
        _reason_of(error),
        error.message[:MESSAGE_CHARS_MAX],
        error.remedy[:MESSAGE_CHARS_MAX],
        error.source,
        tuple(verdict.short() for verdict in verdicts[:VERDICTS_MAX]),
        max(len(verdicts) - VERDICTS_MAX, 0),
        pod=pod.name if pod.name != pod.endpoint_key[1] else "",  # differs for VMs and IPAMClaims
    )


def _reason_of(error: AllocationError) -> str:
    if missing_pool_of(error):
        return _MISSING_POOL
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), _OTHER_REASON)


class _Window(NamedTuple):
    """The refusals of one holder, NIC and reason. ``unwritten``: how many are in no event yet."""

    ends_s: float
    newest: RefusedAdd
    unwritten: int


class RefusalWindows:
    """The open windows. ``overflows``: refusals lost because ``WINDOWS_MAX`` were open."""

    def __init__(self) -> None:
        self.overflows = 0
        self._windows: dict[tuple[str, str, str], _Window] = {}
        """Ordered by their ends."""

    @property
    def next_end_s(self) -> float | None:
        """When the first window ends; None without a window."""
        return next((window.ends_s for window in self._windows.values()), None)

    def note(self, refused: RefusedAdd, now_s: float) -> RefusedAdd | None:
        """Count a refusal. Return the event to write immediately, or None."""
        event = refused.event
        key = (event.holder, event.interface, event.reason)
        window = self._windows.get(key)
        if window is not None:
            self._windows[key] = window._replace(newest=refused, unwritten=window.unwritten + 1)
            return None
        if len(self._windows) >= WINDOWS_MAX:
            self.overflows += 1
            return None
        self._windows[key] = _Window(now_s + WINDOW_S, newest=refused, unwritten=0)
        return refused

    def end_windows(self, now_s: float) -> Iterator[RefusedAdd]:
        """Yield the events of ended windows; each event opens the next window."""
        for key, window in list(self._windows.items()):
            if window.ends_s > now_s:
                return
            del self._windows[key]
            if window.unwritten:
                self._windows[key] = _Window(now_s + WINDOW_S, window.newest, unwritten=0)
                yield _unwritten_refusals(window)

    def close_all(self) -> Iterator[RefusedAdd]:
        """Close all windows; yield the events of refusals that are in no event yet."""
        windows = list(self._windows.values())
        self._windows.clear()
        yield from (_unwritten_refusals(window) for window in windows if window.unwritten)


def _unwritten_refusals(window: _Window) -> RefusedAdd:
    event = window.newest.event._replace(times=window.unwritten)
    return window.newest._replace(event=event)
