"""Functions that workflow code may not call, because their results differ in replay.

``workflows.api.definitions`` searches the code for them at registration. At run time,
``workflows.interpreter.guard`` rejects calls that the search did not find.
"""

from __future__ import annotations

import asyncio
import builtins
import datetime as dt
import io
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import uuid
from typing import Any, NamedTuple

_CLOCK = "workflow.now() and workflow.sleep()"
_RANDOM = "workflow.random() and workflow.uuid4()"
_ACTIVITY = "an activity"
_LOOP = "workflow.sleep, start, gather and wait_for"


class Forbidden(NamedTuple):
    """Forbidden functions of a module or class, and what to use instead."""

    owner: Any
    instead: str
    names: tuple[str, ...]


FORBIDDEN_CALLS = (
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
    Forbidden(type(os.environ), _ACTIVITY, ("__getitem__", "__setitem__", "__iter__")),
    Forbidden(builtins, _ACTIVITY, ("open", "input")),
    Forbidden(io, _ACTIVITY, ("open",)),  # used by pathlib
    Forbidden(socket, _ACTIVITY, ("create_connection", "create_server", "getaddrinfo")),
    Forbidden(socket, _ACTIVITY, ("gethostbyname", "gethostbyaddr", "gethostname", "getfqdn")),
    Forbidden(socket.socket, _ACTIVITY, ("__init__",)),
    Forbidden(subprocess.Popen, _ACTIVITY, ("__init__",)),
    Forbidden(threading.Thread, _LOOP, ("start",)),
    Forbidden(threading.Condition, _LOOP, ("wait",)),  # queues and futures use it
    Forbidden(threading.Event, _LOOP, ("wait",)),
    Forbidden(asyncio, _LOOP, ("sleep", "create_task", "ensure_future", "gather", "wait")),
    Forbidden(asyncio, _LOOP, ("wait_for", "to_thread", "run")),
)

NOT_REPLACEABLE = (
    Forbidden(dt.datetime, _CLOCK, ("now", "utcnow", "today")),
    Forbidden(dt.date, _CLOCK, ("today",)),
)
"""Methods of C types. The guard cannot replace them; only the search at registration finds them."""


def shown_name(owner: Any, name: str) -> str:  # noqa: ANN401 - a module or a class
    """The name for messages, such as ``time.sleep``."""
    shown = "os.environ" if owner is type(os.environ) else owner.__name__
    return f"{shown}.{name}".removesuffix(".__init__")


def _by_function() -> dict[Any, str]:
    return {
        getattr(owner, name): f"{shown_name(owner, name)}: use {instead}"
        for owner, instead, names in (*FORBIDDEN_CALLS, *NOT_REPLACEABLE)
        for name in names
        if name != "__init__"
    }


_BY_FUNCTION = _by_function()


def reason_against(value: object) -> str:
    """Why workflow code may not use ``value``; "" if it may."""
    if value is os.environ:
        return f"os.environ: use {_ACTIVITY}"
    if callable(value) and type(value).__hash__ is not None:
        # While workflow code runs, an import copies the guard's wrapper instead of the function.
        return _BY_FUNCTION.get(value) or _BY_FUNCTION.get(getattr(value, "__wrapped__", None), "")
    return ""
