"""Keep workflow code from using clocks, randomness and I/O, and detect deadlocks.

While the code of any run executes, the functions of ``workflows.api.forbidden_calls`` are replaced
in their modules, and in modules of workflow code that imported them by name. A replacement raises
ForbiddenCallError in workflow code, and calls the real function elsewhere. The error fails the
workflow task even if the code catches it. Replacing is slow, so under an event loop the real
functions are restored at the end of the loop's pass.

A turn is the code that runs from one event until all tasks await. The deadlock detector, a thread,
raises DeadlockError inside a turn that exceeds a limit. The limit is CPU time of the turn's thread,
so that a turn does not fail on a busy machine. A C function that blocks cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, Token
from time import clock_gettime, pthread_getcpuclockid, sleep
from types import ModuleType
from typing import Any, NamedTuple

from workflows.api.context import CURRENT_RUN, WorkflowRuntime
from workflows.api.definitions import reached_modules
from workflows.api.forbidden_calls import FORBIDDEN_CALLS, shown_name
from workflows.model.errors import DeadlockError, ForbiddenCallError
from workflows.model.limits import DEADLOCK_S


class _Replacement(NamedTuple):
    """The forbidden functions of ``owner`` and their replacements, by name.

    ``owner``: a module or class, or the global names of a module.
    """

    owner: Any
    real: dict[str, Any]
    guarded: dict[str, Any]


def _guarded(real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(real, updated=())
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes everything on
        run = CURRENT_RUN.get()
        if run is None:
            return real(*args, **kwargs)
        raise _noted_error(run, f"workflow code may not call {name}: use {instead}")

    return guarded


def _replacements() -> tuple[_Replacement, ...]:
    replacements: dict[Any, _Replacement] = {}
    for owner, instead, names in FORBIDDEN_CALLS:
        replacement = replacements.setdefault(owner, _Replacement(owner, {}, {}))
        for name in names:
            replacement.real[name] = getattr(owner, name)
            replacement.guarded[name] = _guarded(
                replacement.real[name], shown_name(owner, name), instead
            )
    return tuple(replacements.values())


def _set_names(owner: Any, names: dict[str, Any]) -> None:  # noqa: ANN401 - a module or a class
    if isinstance(owner, ModuleType):
        vars(owner).update(names)
        return
    for name, function in names.items():
        setattr(owner, name, function)


_REPLACEMENTS = _replacements()
_GUARDED_BY_ID = {
    id(replacement.real[name]): replacement.guarded[name]
    for replacement in _REPLACEMENTS
    for name in replacement.real
}

_copies: list[_Replacement] = []
"""The forbidden functions that modules of workflow code imported by name."""
_modules_searched = 0
_errors_by_run: dict[int, ForbiddenCallError] = {}
_lock = threading.Lock()
_scopes_entered = 0
_is_installed = False
_restoring_loop: asyncio.AbstractEventLoop | None = None
"""The loop that restores the real functions at the end of its pass."""
_gc_was_enabled = False


def _find_copies() -> None:
    global _modules_searched  # noqa: PLW0603 - as in ``enter``
    modules = reached_modules()
    if len(modules) == _modules_searched:
        return
    _modules_searched = len(modules)
    _restore()
    _copies.clear()
    for names in modules:
        real = {name: value for name, value in names.items() if id(value) in _GUARDED_BY_ID}
        if real:
            guarded = {name: _GUARDED_BY_ID[id(value)] for name, value in real.items()}
            _copies.append(_Replacement(names, real, guarded))


def _swap(names: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, function in after.items():
        if names.get(name) is before[name]:
            names[name] = function


def _noted_error(run: WorkflowRuntime, message: str) -> ForbiddenCallError:
    error = ForbiddenCallError(message)
    _errors_by_run.setdefault(id(run), error)
    return error


def raise_caught_error() -> None:
    """Raise the ForbiddenCallError that the running code has caught, if any."""
    if _errors_by_run:
        error = _errors_by_run.pop(id(CURRENT_RUN.get()), None)
        if error is not None:
            raise error


def enter(run: WorkflowRuntime) -> Token[WorkflowRuntime | None]:
    """Guard the code of ``run`` until ``leave``. Several threads may run code concurrently."""
    global _scopes_entered, _gc_was_enabled  # noqa: PLW0603 - modules are global, and so is their replacement
    with _lock:
        _scopes_entered += 1
        if _scopes_entered == 1:
            _gc_was_enabled = gc.isenabled()
            gc.disable()  # a finalizer, run as workflow code, might use a clock
            _install()
    return CURRENT_RUN.set(run)


def leave(
    run: WorkflowRuntime,
    entered: Token[WorkflowRuntime | None],
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    """End the scope that ``enter`` began. ``entered``: the result of ``enter``.

    When no scope is open, the real functions are restored: after the pass of ``loop``, or
    immediately if ``loop`` is None.
    """
    global _scopes_entered  # noqa: PLW0603 - as above
    CURRENT_RUN.reset(entered)
    _errors_by_run.pop(id(run), None)
    with _lock:
        _scopes_entered -= 1
        if _scopes_entered == 0:
            _restore_later(loop)
            if _gc_was_enabled:
                gc.enable()


def _install() -> None:
    global _is_installed  # noqa: PLW0603 - as above
    _find_copies()
    if _is_installed:
        return
    _is_installed = True
    for replacement in _REPLACEMENTS:
        _set_names(replacement.owner, replacement.guarded)
    for copy in _copies:
        _swap(copy.owner, copy.real, copy.guarded)


def _restore() -> None:
    global _is_installed  # noqa: PLW0603 - as above
    if not _is_installed:
        return
    _is_installed = False
    for replacement in _REPLACEMENTS:
        _set_names(replacement.owner, replacement.real)
    for copy in _copies:
        _swap(copy.owner, copy.guarded, copy.real)


def _restore_later(loop: asyncio.AbstractEventLoop | None) -> None:
    global _restoring_loop  # noqa: PLW0603 - as above
    if loop is None or loop.is_closed():
        _restore()
    elif _restoring_loop is not loop:
        _restoring_loop = loop
        loop.call_soon(_restore_if_unused, context=Context())  # outside workflow code


def _restore_if_unused() -> None:
    global _restoring_loop  # noqa: PLW0603 - as above
    with _lock:
        _restoring_loop = None
        if _scopes_entered == 0:
            _restore()


CHECKS_PER_LIMIT = 8

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Turn:
    __slots__ = ("_since", "is_over_limit", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._since: float | None = None
        self.is_over_limit = False

    def cpu_s(self) -> float:
        """CPU seconds of the turn since its first check. The thread must be alive."""
        now = clock_gettime(pthread_getcpuclockid(self.thread))
        if self._since is None:
            self._since = now
        return now - self._since


class Watchdog:
    """Limits the CPU time of every turn to ``limit_s`` seconds."""

    def __init__(self, limit_s: float, pause: Callable[[float], object] = sleep) -> None:
        self._limit_s = limit_s
        self._pause = pause
        self._turns: dict[int, _Turn] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turn_begun = threading.Event()

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Watch one turn of ``name``. Raises DeadlockError, even if the turn's code caught it."""
        turn = _Turn()
        with self._lock:
            self._turns[turn.thread] = turn
        if self._thread is None:
            self._start_thread()
        if not self._turn_begun.is_set():
            self._turn_begun.set()
        try:
            try:
                yield
            finally:
                self._leave(turn)
        except DeadlockError:
            self._leave(turn)  # again: the error may have interrupted ``_leave``
        if turn.is_over_limit:
            raise DeadlockError(
                f"{name} ran for {self._limit_s} s without awaiting anything "
                "(move long work into an activity)"
            )

    def _leave(self, turn: _Turn) -> None:
        with self._lock:
            self._turns.pop(turn.thread, None)
            if turn.is_over_limit:  # clears an error that was not raised yet
                _raise_in(ctypes.c_ulong(turn.thread), None)

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="deadlock", daemon=True)
                Context().run(thread.start)  # workflow code may not start a thread
                self._thread = thread

    def _watch(self) -> None:
        while True:
            self._turn_begun.wait()  # a process without turns does not wake up
            self._pause(self._limit_s / CHECKS_PER_LIMIT)
            self._turn_begun.clear()
            if self._turns:  # read after clearing: a turn that begins later sets it
                self._turn_begun.set()
            with self._lock:
                for turn in self._turns.values():
                    if turn.cpu_s() > self._limit_s:
                        turn.is_over_limit = True
                        _raise_in(ctypes.c_ulong(turn.thread), ctypes.py_object(DeadlockError))


watchdog = Watchdog(DEADLOCK_S)


class CodeScope:
    """The scope in which code of ``run`` executes, without access to asyncio's loop."""

    # A class is faster than a generator, and every workflow task enters a scope.
    __slots__ = ("_entered", "_loop", "_run")

    def __init__(self, run: WorkflowRuntime) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for event loops
        self._entered: Token[WorkflowRuntime | None] = enter(self._run)
        asyncio._set_running_loop(None)  # noqa: SLF001 - as above

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(self._loop)  # noqa: SLF001 - as above
        leave(self._run, self._entered, self._loop)
