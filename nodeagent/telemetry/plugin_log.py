"""Writes the plugin log: the log file of the CNI executables.

A user may choose the path and the agent writes as root, so this module writes only regular files
and follows no symbolic link. The caller must limit the files to one directory. Settings:
docs/reference/cni-configuration.md, "spiderpool".
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import stat
import sys
import threading
import time
from collections import OrderedDict, deque
from errno import EINVAL
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from core.process.logs import timestamp

FILE_MEGABYTES: Final = 100
KEPT_DAYS: Final = 30
KEPT_FILES: Final = 10

FLUSH_S: Final = 0.2
"""Lines are collected for this time before a write."""

CLOSE_S_MAX: Final = 5.0
LINES_WAITING_MAX: Final = 10_000
BATCH_LINES_MAX: Final = 500
"""Lines in one write. A file is rotated only between two writes."""

FILES_MAX: Final = 1_000
"""Limit of old files of one log: each rotation renames all of them."""

FILES_OPEN_MAX: Final = 16
RETRY_S: Final = 60.0
"""After a write error, lines for the file are discarded for this time."""

_DAY_S: Final = 86_400.0
_PRIVATE: Final = 0o600
_PLAIN: Final = logging.Formatter("%(message)s")
_log: Final = logging.getLogger(__name__)


class LogTarget(NamedTuple):
    """A log file and its rotation.

    ``megabytes``: the size at which the file is rotated. ``days``: greatest age of old files.
    ``files``: greatest number of old files.
    """

    path: str
    megabytes: int = FILE_MEGABYTES
    days: int = KEPT_DAYS
    files: int = KEPT_FILES


class _Line(NamedTuple):
    target: LogTarget
    level: str
    at: float
    fields: dict[str, object]


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class PluginLog:
    """Writes queued lines in a thread, so a slow disk delays no Pod.

    A line is lost if the queue is full or the line's file cannot be written.
    """

    def __init__(self) -> None:
        # Not a queue.Queue, which would cost each ADD a thread switch. Only the first line
        # of a batch wakes the thread.
        self._lines: deque[_Line] = deque()
        self._is_woken = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._handlers: OrderedDict[str, RotatingFile] = OrderedDict()
        self._unusable_until: dict[str, float] = {}
        # ``+=`` is not atomic, so each count is changed by one thread only: the first by callers of
        # ``write``, the second by the thread of this object.
        self._lines_over_limit = 0
        self._lines_unwritten = 0

    @property
    def dropped(self) -> int:
        """The number of lost lines."""
        return self._lines_over_limit + self._lines_unwritten

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="plugin-log", daemon=True)
        self._thread.start()

    def write(self, target: LogTarget, level: str, fields: dict[str, object]) -> None:
        """Queue a line, or drop it if the queue is full; does not wait."""
        if len(self._lines) >= LINES_WAITING_MAX:
            self._lines_over_limit += 1
            return
        self._lines.append(_Line(target, level, time.time(), fields))
        if not self._is_woken.is_set():
            self._is_woken.set()

    def close(self, seconds: float = CLOSE_S_MAX) -> None:
        """Write the queued lines, for at most ``seconds``, and close the files."""
        self._ending.set()
        self._is_woken.set()
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                _log.warning("the plugin log lost lines: a file was not written in %g s", seconds)
            self._thread = None

    def _run(self) -> None:
        while not self._ending.is_set():
            self._is_woken.wait()
            self._ending.wait(FLUSH_S)
            self._is_woken.clear()  # before the flush: later lines wake the thread again
            self._flush()
        self._flush()
        for handler in self._handlers.values():
            handler.close()

    def _flush(self) -> None:
        batch: dict[LogTarget, list[bytes]] = {}
        for _ in range(len(self._lines)):
            line = self._lines.popleft()
            batch.setdefault(line.target, []).append(_encoded(line))
        for target, lines in batch.items():
            for first in range(0, len(lines), BATCH_LINES_MAX):
                self._append(target, lines[first : first + BATCH_LINES_MAX])

    def _append(self, target: LogTarget, lines: list[bytes]) -> None:
        if self._unusable_until.get(target.path, 0.0) > time.monotonic():
            self._lines_unwritten += len(lines)
            return
        text = b"\n".join(lines).decode()
        try:
            handler = self._handler(target)
            handler.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
            self._unusable_until.pop(target.path, None)
        except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
            self._lines_unwritten += len(lines)
            self._unusable_until[target.path] = time.monotonic() + RETRY_S
            _log.warning("cannot write the plugin log %s: %s", target.path, error)

    def _handler(self, target: LogTarget) -> RotatingFile:
        """The only handler of a file: two handlers would both rename the old files."""
        handler = self._handlers.get(target.path)
        if handler is None:
            while len(self._handlers) >= FILES_OPEN_MAX:
                self._handlers.popitem(last=False)[1].close()
            handler = self._handlers[target.path] = RotatingFile(target)
        handler.set_rotation(target)
        self._handlers.move_to_end(target.path)
        return handler


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotated log file, readable only by root."""

    def __init__(self, target: LogTarget) -> None:
        path = Path(target.path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        super().__init__(path, encoding="utf-8")
        self.setFormatter(_PLAIN)
        self.set_rotation(target)

    def set_rotation(self, target: LogTarget) -> None:
        """Change the rotation: networks with different settings may share a file."""
        self.maxBytes = target.megabytes << 20
        self.backupCount = min(target.files, FILES_MAX)
        self._days = target.days

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_open_regular)

    def doRollover(self) -> None:  # noqa: N802  # the standard library's name
        super().doRollover()
        oldest = time.time() - self._days * _DAY_S
        for number in range(1, self.backupCount + 1):
            old_file = Path(f"{self.baseFilename}.{number}")
            if old_file.exists() and old_file.stat().st_mtime < oldest:
                old_file.unlink()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Raise the error, so that ``_append`` reports it."""
        error = sys.exc_info()[1]
        if error is not None:
            raise error


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file; raise OSError for any other file. Does not block on a FIFO."""
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, _PRIVATE)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(EINVAL, "not a regular file", path)
    return file


def _encoded(line: _Line) -> bytes:
    document = {"level": line.level.upper(), "ts": timestamp(line.at)} | line.fields
    return _encode(document)
