"""Unix sockets: one agent for each path; only root and the agent's own user may call.

A process owns the path while it holds the lock of ``<path>.lock`` (flock(2)). The owner replaces a
stale socket file, but not a socket on which another process listens. The lock file is never
removed: otherwise two processes could lock two files of that name.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from core.errors import BadInput
from nodeagent.settings.agent_settings import FRAMED_SUFFIX

SOCKET_BACKLOG: Final = 1_024
PATH_BYTES_MAX: Final = 107
"""``sun_path`` (unix(7)) without the closing NUL."""

LOCK_SUFFIX: Final = ".lock"

_ACCESS_REMEDY: Final = (
    "let the agent write to the directory of the socket, or set another ipamUnixSocketPath"
)
_DIRECTORY_REMEDY: Final = (
    "create the directory, or set an ipamUnixSocketPath in a directory that the agent can create"
)
_IN_USE_REMEDY: Final = (
    "stop the process that listens there, or set another ipamUnixSocketPath for this agent"
)

_PRIVATE_UMASK: Final = 0o177
_CREDENTIALS: Final = struct.Struct("=3i")
_CONNECT_S: Final = 1.0


class ListeningSocket:
    """A bound unix stream socket with its lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = _lock_path(path)
        try:
            self.socket = _bind_path(path)
            self._inode = Path(path).stat().st_ino
        except BaseException:
            os.close(self._lock)
            raise

    def remove(self) -> None:
        """Close the socket and remove its file, unless another process has replaced the file."""
        self.socket.close()
        path = Path(self.path)
        try:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == self._inode:
                    path.unlink()
        finally:
            lock, self._lock = self._lock, -1
            if lock >= 0:
                os.close(lock)


def may_call(connection: socket.socket) -> bool:
    """Whether the peer is root or the agent's own user (SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return uid in (0, os.geteuid())


def caller_hung_up(transport: asyncio.BaseTransport | None) -> bool:
    """``has_hung_up`` for a transport. True also if the transport is missing or closing."""
    if transport is None or transport.is_closing():
        return True
    return has_hung_up(transport.get_extra_info("socket"))


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the peer has closed or shut down its side, or the agent has closed the socket.

    The EOF may still be unread. A caller that shuts down its side has given up
    (docs/reference/cni-executables.md, "Framing").
    """
    descriptor = connection.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def _lock_path(path: str) -> int:
    """Lock a socket path; return the descriptor that holds the lock. Raises BadInput."""
    _check_path(path)
    name = f"{path}{LOCK_SUFFIX}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    directory = Path(path).parent
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot create directory {directory}: {error.strerror}"
        raise BadInput(text, subject=path, remedy=_DIRECTORY_REMEDY) from error
    try:
        lock = os.open(name, flags, 0o600)
    except OSError as error:
        text = f"cannot open lock file {name}: {error.strerror}"
        raise BadInput(text, subject=path, remedy=_ACCESS_REMEDY) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise _in_use(path) from error
    return lock


def _check_path(path: str) -> None:
    if not path.startswith("/") or len(path.encode()) > PATH_BYTES_MAX:
        raise BadInput(
            f"{path[:200]!r} cannot be the path of a socket",
            subject="ipamUnixSocketPath",
            remedy=f"give an absolute path of at most {PATH_BYTES_MAX - len(FRAMED_SUFFIX)} bytes",
        )


def _bind_path(path: str) -> socket.socket:
    try:
        _remove_stale(path)
    except OSError as error:
        text = f"cannot remove the stale socket {path}: {error.strerror}"
        raise BadInput(text, subject=path, remedy=_ACCESS_REMEDY) from error
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous_umask = os.umask(_PRIVATE_UMASK)
    try:
        listening.bind(path)
    except OSError as error:
        listening.close()
        text = f"cannot bind {path}: {error.strerror}"
        raise BadInput(text, subject=path, remedy=_ACCESS_REMEDY) from error
    finally:
        os.umask(previous_umask)
    listening.setblocking(False)
    return listening


def _remove_stale(path: str) -> None:
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadInput(
            f"{path} exists and is not a socket", subject=path, remedy="move or delete this file"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_S)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            text = f"cannot find out whether another process listens on {path}: {error}"
            raise BadInput(text, subject=path, remedy=_IN_USE_REMEDY) from error
    raise _in_use(path)


def _in_use(path: str) -> BadInput:
    return BadInput(f"another process listens on {path}", subject=path, remedy=_IN_USE_REMEDY)
