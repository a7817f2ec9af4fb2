"""Keeps clock, randomness and I/O away from workflow code.

While a run's code is running, the functions below are replaced, in their modules, by ones that look
whether the caller is workflow code (a context variable) and refuse if it is; everybody else gets
the real one. What a module took by name before (``from time import time``) is found where workflow
types are registered, by ``workflows.interpreter.inspection``.

A refusal fails the workflow task even if the code swallows the error.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from workflows.api.context import CURRENT, Runtime
from workflows.model.errors import ForbiddenCallError

_CLOCK = "workflow.now() and workflow.sleep()"
_RANDOM = "workflow.random() and workflow.uuid4()"
_ACTIVITY = "an activity"

FORBIDDEN: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (
        time,
        _CLOCK,
        (
            *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
            *("process_time", "sleep", "localtime", "gmtime", "ctime"),
        ),
    ),
    (
        random,
        _RANDOM,
        (
            *("random", "randint", "randrange", "uniform", "choice", "choices", "sample"),
            *("shuffle", "gauss", "getrandbits", "randbytes", "seed"),
        ),
    ),
    (secrets, _RANDOM, ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice")),
    (uuid, _RANDOM, ("uuid1", "uuid4")),
    (
        os,
        _ACTIVITY,
        ("urandom", "getpid", "open", "listdir", "scandir", "remove", "system", "fork"),
    ),
    (builtins, _ACTIVITY, ("open", "input")),
    (socket, _ACTIVITY, ("create_connection", "getaddrinfo", "gethostbyname")),
    (socket.socket, _ACTIVITY, ("__init__",)),
    (subprocess.Popen, _ACTIVITY, ("__init__",)),
    (threading.Thread, "workflow.start", ("start",)),
    (asyncio, "workflow.sleep, gather, start", ("sleep", "create_task", "gather", "wait_for")),
)
"""Where, what to use instead, which names."""


class _Post(NamedTuple):
    """One replaced name: ``owner.name`` is ``real`` for all and ``guarded`` while on duty."""

    owner: Any
    name: str
    real: Any
    guarded: Any


def _guarded(real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(real, updated=())
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes everything on
        run = CURRENT.get()
        if run is None:
            return real(*args, **kwargs)
        raise _refuse(run, f"{name} differs from replay to replay: use {instead}")

    return guarded


def _posts() -> tuple[_Post, ...]:
    posts = []
    for owner, instead, names in FORBIDDEN:
        for name in names:
            real = getattr(owner, name)
            called = f"{owner.__name__}.{name}".removesuffix(".__init__")
            posts.append(_Post(owner, name, real, _guarded(real, called, instead)))
    return tuple(posts)


_POSTS = _posts()
_violations: dict[int, ForbiddenCallError] = {}
_lock = threading.Lock()
_on_duty = 0


def _refuse(run: Runtime, message: str) -> ForbiddenCallError:
    error = ForbiddenCallError(message)
    _violations.setdefault(id(run), error)
    return error


def check() -> None:
    """Raise what the running code was refused, in case it swallowed the error."""
    if _violations:
        error = _violations.pop(id(CURRENT.get()), None)
        if error is not None:
            raise error


@contextmanager
def on_duty() -> Iterator[None]:
    """Guarded inside. Several may be on duty at once; the last to leave puts everything back."""
    global _on_duty  # noqa: PLW0603 - modules are global, so is who replaces their functions
    with _lock:
        _on_duty += 1
        if _on_duty == 1:
            for owner, name, _, guarded in _POSTS:
                setattr(owner, name, guarded)
    try:
        yield
    finally:
        _violations.pop(id(CURRENT.get()), None)
        with _lock:
            _on_duty -= 1
            if _on_duty == 0:
                for owner, name, real, _ in _POSTS:
                    setattr(owner, name, real)
