"""The global options, store, clock and user of one run of orbctl.

Must not import the etcd client or rich, which are slow: help and completion must be fast.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from core.process.environment import CLUSTER_VARIABLES
from ops.cli.command_group import INHERITED_OPTIONS
from ops.cli.formats import Output, parse_output

if TYPE_CHECKING:
    from core.eventstore.etcd import EtcdSettings
    from core.eventstore.kv import KeyValueStore

WHO_VARIABLE: Final = "ORBWEAVER_WHO"
"""The environment variable that passes the caller's ``user@host`` to orbctl in a Pod."""

WHO_CHARACTERS_MAX: Final = 128


def unix_ms() -> int:
    """The current time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def user_and_host() -> str:
    """The value of ``ORBWEAVER_WHO``, or ``user@host`` of this process."""
    if who := os.environ.get(WHO_VARIABLE, "").strip():
        return who[:WHO_CHARACTERS_MAX]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class ProcessContext(NamedTuple):
    """The store, clock and user of a run; tests replace them.

    If ``open_store`` is None, orbctl connects to etcd.
    """

    open_store: Callable[[EtcdSettings], KeyValueStore] | None = None
    now_ms: Callable[[], int] = unix_ms
    who: Callable[[], str] = user_and_host


class Globals(NamedTuple):
    """The global options. ``cluster`` maps names in ``CLUSTER_VARIABLES`` to values."""

    cluster: dict[str, str]
    output: Output
    process: ProcessContext


def globals_of(context: typer.Context) -> Globals:
    """The global options, given before or after the command's name. Raises BadInput."""
    options_so_far = context.obj
    assert isinstance(options_so_far, Globals), "the application's callback sets context.obj"
    inherited: dict[str, Any] = context.meta.get(INHERITED_OPTIONS, {})
    cluster = {name: value for name, value in inherited.items() if name in CLUSTER_VARIABLES}
    output = parse_output(inherited["output"]) if "output" in inherited else options_so_far.output
    return options_so_far._replace(cluster={**options_so_far.cluster, **cluster}, output=output)
