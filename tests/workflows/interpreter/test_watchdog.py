"""The watchdog stops a turn that uses the processor for too long.

A turn is the execution of workflow code up to its next ``await``.
"""

from __future__ import annotations

import queue
import threading
import time

import pytest

from workflows.interpreter import guard
from workflows.interpreter.guard import Watchdog
from workflows.model.errors import DeadlockError


def test_a_turn_that_exceeds_its_cpu_time_is_stopped() -> None:
    watchdog = Watchdog(0.05)

    def busy() -> None:
        while True:
            pass

    with pytest.raises(DeadlockError, match="without awaiting"), watchdog.watched("Busy"):
        busy()


def test_a_turn_that_got_no_cpu_time_is_not_a_deadlock() -> None:
    watchdog = Watchdog(0.05)
    with watchdog.watched("Starved"):
        is_set = threading.Event().wait(0.2)  # takes longer than the limit, but no CPU time

    assert not is_set, "no DeadlockError has interrupted the wait"


def test_except_exception_does_not_catch_a_deadlock_error() -> None:
    watchdog = Watchdog(0.05)

    def busy() -> None:
        try:
            while True:
                pass
        except Exception:  # noqa: BLE001 - the point of the test
            return

    with pytest.raises(DeadlockError), watchdog.watched("Busy"):
        busy()


def test_the_watchdog_continues_when_a_turn_begins_during_its_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_began, second_began = threading.Event(), threading.Event()
    clock_gettime = time.clock_gettime

    def slow_clock(clock: int) -> float:
        check_began.set()
        second_began.wait(0.2)
        return clock_gettime(clock)

    def run_second() -> None:
        check_began.wait(60)
        with watchdog.watched("Second"):
            second_began.set()

    monkeypatch.setattr(guard, "clock_gettime", slow_clock)
    watchdog = Watchdog(0.05)
    second = threading.Thread(target=run_second)
    with watchdog.watched("First"):
        second.start()
        second.join(60)
    stop_s = time.thread_time() + 5

    def busy() -> None:
        while time.thread_time() < stop_s:
            pass

    with pytest.raises(DeadlockError), watchdog.watched("Busy"):
        busy()


def test_the_watchdog_sleeps_while_no_turn_runs() -> None:
    pauses: queue.Queue[float] = queue.Queue()
    watchdog = Watchdog(0.05, pauses.put)
    for _ in range(2):
        with watchdog.watched("Short"):
            pass

        # On a busy machine the watchdog may check a short turn more than once.
        pause_s: float | None = pauses.get(timeout=60)
        while pause_s is not None:
            assert pause_s < 0.05
            pause_s = next_within(pauses, 0.2)


def next_within(pauses: queue.Queue[float], seconds: float) -> float | None:
    """The next pause of the watchdog, or None after ``seconds``."""
    try:
        return pauses.get(timeout=seconds)
    except queue.Empty:
        return None
