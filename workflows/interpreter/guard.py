"""Keeps clock, randomness and I/O away from workflow code while it runs, and detects deadlocks.

While the code of any run executes, the functions of ``workflows.api.forbidden_calls`` are replaced
in their modules and in modules of workflow code that imported them by name. The replacement refuses
a call from workflow code, which a context variable marks, and passes on every other call.
A refusal fails the workflow task even if the code swallows the error.

Replacing them all costs as much as a short workflow task, and a worker at full rate does dozens of
tasks in one pass of its event loop. So under an event loop they are put back at the end of the
pass, not of the task.

The deadlock detector ends workflow code that runs for too long without awaiting. One thread checks
the threads that run workflow code, a few times within the limit, and raises DeadlockError inside a
turn that takes too long. The limit is CPU time of the turn's thread, so that a busy or suspended
machine pauses no execution. The checking thread reads that clock from its first check of a turn on,
because reading it is a system call, and most turns end before a check. It can end Python code that
loops, but no C function that blocks; the guard forbids those.
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
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from workflows.api.context import CURRENT, WorkflowRuntime
from workflows.api.forbidden_calls import FORBIDDEN, shown_name
from workflows.api.inspection import reached_modules
from workflows.model.errors import DeadlockError, ForbiddenCallError
from workflows.model.limits import DEADLOCK_S


class _Post(NamedTuple):
    """One module or class: its names as they are at rest and, replaced, while on duty."""

    owner: Any
    real: dict[str, Any]
    guarded: dict[str, Any]


def _guarded(real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(real, updated=())
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes everything on
        run = CURRENT.get()
        if run is None:
            return real(*args, **kwargs)
        raise _refusal(run, f"{name} differs from replay to replay: use {instead}")

    return guarded


def _posts() -> tuple[_Post, ...]:
    posts: dict[Any, _Post] = {}
    for owner, instead, names in FORBIDDEN:
        post = posts.setdefault(owner, _Post(owner, {}, {}))
        for name in names:
            post.real[name] = getattr(owner, name)
            post.guarded[name] = _guarded(post.real[name], shown_name(owner, name), instead)
    return tuple(posts.values())


def _place(owner: Any, names: dict[str, Any]) -> None:  # noqa: ANN401 - a module or a class
    """Every task does it twice, so a module's names go in at once."""
    if isinstance(owner, ModuleType):
        vars(owner).update(names)
        return
    for name, function in names.items():
        setattr(owner, name, function)


_POSTS = _posts()
_BY_REAL = {id(post.real[name]): post.guarded[name] for post in _POSTS for name in post.real}
"""What takes the place of a function, also under the name by which a module imported it."""

_copies: list[_Post] = []
_modules_seen = 0
_refused: dict[int, ForbiddenCallError] = {}
_lock = threading.Lock()
_on_duty = 0
_is_placed = False
"""Whether the guarded functions are in place."""
_relieving: asyncio.AbstractEventLoop | None = None
"""The loop that puts the real functions back at the end of its present pass."""
_collects = False
"""Whether the garbage collector is enabled outside workflow code."""


def _find_copies() -> None:
    """Functions that modules of workflow code import by name; read again for new modules."""
    global _modules_seen  # noqa: PLW0603 - as below
    modules = reached_modules()
    if len(modules) == _modules_seen:
        return
    _modules_seen = len(modules)
    _put_back()
    _copies.clear()
    for names in modules:
        real = {name: value for name, value in names.items() if id(value) in _BY_REAL}
        if real:
            guarded = {name: _BY_REAL[id(value)] for name, value in real.items()}
            _copies.append(_Post(names, real, guarded))


def _swap(names: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    """In a foreign module restore only what no other code has replaced."""
    for name, function in after.items():
        if names.get(name) is before[name]:
            names[name] = function


def _refusal(run: WorkflowRuntime, message: str) -> ForbiddenCallError:
    error = ForbiddenCallError(message)
    _refused.setdefault(id(run), error)
    return error


def check() -> None:
    """Raise what the running code was refused, in case it swallowed the error."""
    if _refused:
        error = _refused.pop(id(CURRENT.get()), None)
        if error is not None:
            raise error


def enter(run: WorkflowRuntime) -> Token[WorkflowRuntime | None]:
    """Code of ``run`` runs from here to ``leave``, guarded. Several may be on duty at once.

    No garbage is collected as long as this context is that of workflow code: finalizers of
    other objects, which may need a clock or a thread, would run as if workflow code called them.
    """
    global _on_duty, _collects  # noqa: PLW0603 - modules are global, so is who replaces their functions
    with _lock:
        _on_duty += 1
        if _on_duty == 1:
            _collects = gc.isenabled()
            gc.disable()
            _place_guarded()
    return CURRENT.set(run)


def leave(
    run: WorkflowRuntime,
    entered: Token[WorkflowRuntime | None],
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    """End what ``enter`` has begun, with its token.

    The last to leave puts everything back, if need be at the end of the pass of ``loop``.
    """
    global _on_duty  # noqa: PLW0603 - as above
    CURRENT.reset(entered)
    _refused.pop(id(run), None)
    with _lock:
        _on_duty -= 1
        if _on_duty == 0:
            _relieve_later(loop)
            if _collects:
                gc.enable()


def _place_guarded() -> None:
    global _is_placed  # noqa: PLW0603 - as above
    _find_copies()
    if _is_placed:
        return
    _is_placed = True
    for post in _POSTS:
        _place(post.owner, post.guarded)
    for copy in _copies:
        _swap(copy.owner, copy.real, copy.guarded)


def _put_back() -> None:
    global _is_placed  # noqa: PLW0603 - as above
    if not _is_placed:
        return
    _is_placed = False
    for post in _POSTS:
        _place(post.owner, post.real)
    for copy in _copies:
        _swap(copy.owner, copy.guarded, copy.real)


def _relieve_later(loop: asyncio.AbstractEventLoop | None) -> None:
    global _relieving  # noqa: PLW0603 - as above
    if loop is None or loop.is_closed():
        _put_back()
    elif _relieving is not loop:
        _relieving = loop
        loop.call_soon(_relieve, context=Context())  # not as workflow code


def _relieve() -> None:
    """Put the real functions back, unless another thread runs workflow code."""
    global _relieving  # noqa: PLW0603 - as above
    with _lock:
        _relieving = None
        if _on_duty == 0:
            _put_back()


CHECKS_PER_LIMIT = 8

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Turn:
    __slots__ = ("_since", "bitten", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._since: float | None = None
        self.bitten = False

    def lasts_s(self) -> float:
        """Seconds that its thread has run since the first check. The thread must be alive."""
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


class CodeScope:
    """Code of ``run`` runs inside; asyncio's loop is out of its sight.

    Every workflow task enters one, so it is no generator.
    """

    __slots__ = ("_entered", "_loop", "_run")

    def __init__(self, run: WorkflowRuntime) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for event loops
        self._entered: Token[WorkflowRuntime | None] = enter(self._run)
        asyncio._set_running_loop(None)  # noqa: SLF001 - the same

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio._set_running_loop(self._loop)  # noqa: SLF001 - the same
        leave(self._run, self._entered, self._loop)
