"""What workflow code may not call, because it differs from replay to replay, and what to use.

Two guards share this list. Here, when a workflow type is registered, its code is read: a name that
leads to a forbidden function is refused before anything runs. While code runs,
``workflows.interpreter.guard`` refuses what was reached by another way.
"""

from __future__ import annotations

import asyncio
import builtins
import datetime as dt
import dis
import io
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import types
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from workflows.model.errors import ForbiddenCallError

_CLOCK = "workflow.now() and workflow.sleep()"
_RANDOM = "workflow.random() and workflow.uuid4()"
_ACTIVITY = "an activity"
_LOOP = "workflow.sleep, start, gather and wait_for"


class Forbidden(NamedTuple):
    """``names`` of ``owner`` (a module or class), and what to use ``instead``."""

    owner: Any
    instead: str
    names: tuple[str, ...]


FORBIDDEN = (
    Forbidden(time, _CLOCK, ("time", "time_ns", "monotonic", "monotonic_ns", "sleep")),
    Forbidden(time, _CLOCK, ("perf_counter", "perf_counter_ns", "localtime", "gmtime", "ctime")),
    Forbidden(time, _CLOCK, ("process_time", "process_time_ns", "thread_time", "thread_time_ns")),
    Forbidden(time, _CLOCK, ("clock_gettime", "clock_gettime_ns")),
    Forbidden(random, _RANDOM, ("random", "randint", "randrange", "uniform", "choice", "seed")),
    Forbidden(random, _RANDOM, ("choices", "sample", "shuffle", "getrandbits", "randbytes")),
    Forbidden(random, _RANDOM, ("gauss", "normalvariate", "expovariate", "triangular")),
    Forbidden(random.SystemRandom, _RANDOM, ("random", "getrandbits")),
    Forbidden(secrets, _RANDOM, ("token_bytes", "token_hex", "token_urlsafe", "randbelow")),
    Forbidden(secrets, _RANDOM, ("choice", "randbits")),
    Forbidden(uuid, _RANDOM, ("uuid1", "uuid4", "getnode")),
    Forbidden(os, _RANDOM, ("urandom", "getrandom")),
    Forbidden(os, _ACTIVITY, ("getpid", "getppid", "getenv", "system", "popen", "fork")),
    Forbidden(os, _ACTIVITY, ("open", "listdir", "scandir", "mkdir", "remove", "unlink", "rmdir")),
    Forbidden(os, _ACTIVITY, ("rename", "replace")),
    Forbidden(builtins, _ACTIVITY, ("open", "input")),
    Forbidden(io, _ACTIVITY, ("open",)),  # what pathlib opens files with
    Forbidden(socket, _ACTIVITY, ("create_connection", "create_server", "getaddrinfo")),
    Forbidden(socket, _ACTIVITY, ("gethostbyname", "gethostbyaddr", "gethostname", "getfqdn")),
    Forbidden(socket.socket, _ACTIVITY, ("__init__",)),
    Forbidden(subprocess.Popen, _ACTIVITY, ("__init__",)),
    Forbidden(threading.Thread, _LOOP, ("start",)),
    Forbidden(threading.Condition, _LOOP, ("wait",)),  # and what stands on it: queues, futures
    Forbidden(threading.Event, _LOOP, ("wait",)),
    Forbidden(asyncio, _LOOP, ("sleep", "create_task", "ensure_future", "gather", "wait")),
    Forbidden(asyncio, _LOOP, ("wait_for", "to_thread", "run")),
)
"""What can be replaced while code runs."""

UNCHANGEABLE = (
    Forbidden(dt.datetime, _CLOCK, ("now", "utcnow", "today")),
    Forbidden(dt.date, _CLOCK, ("today",)),
)
"""Methods of C types: only reading the code finds these."""


def _by_function() -> dict[Any, str]:
    return {
        getattr(owner, name): f"{owner.__name__}.{name}: use {instead}"
        for owner, instead, names in (*FORBIDDEN, *UNCHANGEABLE)
        for name in names
        if name != "__init__"
    }


_BY_FUNCTION = _by_function()


def inspect_code(cls: type[Any]) -> None:
    """ForbiddenCallError if methods of a workflow, or functions beside it, name one of these."""
    seen: set[types.CodeType] = set()
    for base in cls.__mro__:
        for member in vars(base).values():
            if isinstance(member, types.FunctionType):
                _inspect(member, seen)


def _inspect(function: types.FunctionType, seen: set[types.CodeType]) -> None:
    if function.__code__ in seen:
        return
    seen.add(function.__code__)
    for named in _named(function.__code__, function.__globals__):
        reason = _BY_FUNCTION.get(named) if callable(named) and _hashable(named) else None
        if reason is not None:
            raise ForbiddenCallError(f"{function.__qualname__} calls {reason}")
        if isinstance(named, types.FunctionType) and named.__module__ == function.__module__:
            _inspect(named, seen)


def _named(code: types.CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """Everything that the code reaches by a global name and attributes of modules and classes."""
    found: Any = None
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            if found is not None:
                yield found
            found = names.get(step.argval, getattr(builtins, step.argval, None))
        elif step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            follow = isinstance(found, types.ModuleType | type)
            found = getattr(found, step.argval, None) if follow else None
        else:
            if found is not None:
                yield found
            found = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant, names)


def _hashable(value: object) -> bool:
    return type(value).__hash__ is not None
