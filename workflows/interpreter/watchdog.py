"""The deadlock detector: ends workflow code that runs for too long without awaiting.

One thread checks the threads that run workflow code, a few times within the limit, and raises
DeadlockError inside a turn that takes too long. The limit is CPU time of the turn's thread, so that
a busy or suspended machine pauses no execution. The checking thread reads that clock from its first
check of a turn on: it costs a system call, and most turns end before a check. Python code that
loops can be ended, a C function that blocks cannot; the guard forbids those.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from time import clock_gettime, pthread_getcpuclockid, sleep

from workflows.model.errors import DeadlockError
from workflows.model.limits import DEADLOCK_S

CHECKS_PER_LIMIT = 8

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Turn:
    __slots__ = ("_since", "bitten", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._since: float | None = None
        self.bitten = False

    def lasts_s(self) -> float:
        """How long its thread has run since the first look at it. The thread must be alive."""
        now = clock_gettime(pthread_getcpuclockid(self.thread))
        if self._since is None:
            self._since = now
        return now - self._since


class Watchdog:
    """Watches one turn of each thread. ``limit_s`` is how long it may take.

    ``pause`` waits the given seconds between two checks.
    """

    def __init__(self, limit_s: float, pause: Callable[[float], object] = sleep) -> None:
        self._limit_s = limit_s
        self._pause = pause
        self._turns: dict[int, _Turn] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """One turn of ``name``. DeadlockError if it takes too long, even if code swallows that."""
        turn = _Turn()
        self._turns[turn.thread] = turn
        if self._thread is None:
            self._begin()
        if not self._begun.is_set():
            self._begun.set()
        try:
            try:
                yield
            finally:
                self._leave(turn)
        except DeadlockError:
            self._leave(turn)  # it may have come in the middle of leaving
        if turn.bitten:
            raise DeadlockError(
                f"{name} ran for {self._limit_s} s without awaiting anything "
                "(move long work into an activity)"
            )

    def _leave(self, turn: _Turn) -> None:
        with self._lock:
            self._turns.pop(turn.thread, None)
            if turn.bitten:  # what was raised and has not arrived is called back
                _raise_in(ctypes.c_ulong(turn.thread), None)

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="deadlock", daemon=True)
                Context().run(thread.start)  # not as workflow code, which may start none
                self._thread = thread

    def _watch(self) -> None:
        while True:
            self._begun.wait()  # a process without turns does not wake up
            self._pause(self._limit_s / CHECKS_PER_LIMIT)
            self._begun.clear()
            if self._turns:  # looked at after clearing: a turn that begins now sets it itself
                self._begun.set()
            with self._lock:
                for turn in self._turns.values():
                    if turn.lasts_s() > self._limit_s:
                        turn.bitten = True
                        _raise_in(ctypes.c_ulong(turn.thread), ctypes.py_object(DeadlockError))


watchdog = Watchdog(DEADLOCK_S)
