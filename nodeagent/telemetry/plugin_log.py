"""The plugin's log file: lines that the agent writes on behalf of the executables.

The netconf names file, level and rotation (docs/reference/cni-configuration.md, "spiderpool"). The
agent is root and the author of a netconf may be a user, so files are regular files of one
directory, and links are not followed. Lines wait, boundedly, for a thread that writes them: a slow
disk delays no Pod, and what does not fit is dropped and counted. A file that cannot be written is
reported once and tried again later; it never fails a request.
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

from core.process.logs import LEVELS, timestamp

MEGABYTES: Final = 100
DAYS: Final = 30
FILES: Final = 10
"""Rotation where the netconf says nothing (docs/reference/cni-configuration.md, "spiderpool")."""

FLUSH_S: Final = 0.2
"""From the first line that waits to the writing of all that came meanwhile."""

CLOSE_S_MAX: Final = 5.0
LINES_WAITING_MAX: Final = 10_000
BATCH_LINES_MAX: Final = 500
"""Lines written at once; a file is rotated between two batches."""

FILES_MAX: Final = 1_000
"""Old parts of a file, whatever the netconf says: each rotation renames them all."""

FILES_OPEN_MAX: Final = 16
RETRY_S: Final = 60.0
"""How long a file that could not be opened is left alone."""

NETWORK_FILES_MAX: Final = 64
"""Files that netconfs may name while an agent runs; lines of more networks go to the default."""

WARNED_MAX: Final = 64
"""Paths whose refusal is logged, each once."""

_DAY_S: Final = 86_400.0
_PRIVATE: Final = 0o600
_PLAIN: Final = logging.Formatter("%(message)s")
_log: Final = logging.getLogger(__name__)


class LogTarget(NamedTuple):
    """A file and its rotation: megabytes a file, days and number of old ones."""

    path: str
    megabytes: int = MEGABYTES
    days: int = DAYS
    files: int = FILES


class LogDirectory:
    """The directory of the ``default`` file: netconfs may name files in it, and no others."""

    def __init__(self, default: str) -> None:
        self._default = os.path.normpath(default)
        self._directory = Path(self._default).parent
        self._files: set[str] = set()
        self._warned: set[str] = set()

    def file_for(self, path: str) -> str:
        """The file that a netconf names, if it may; else the default."""
        if not path:
            return self._default
        path = os.path.normpath(path)
        if path == self._default or path in self._files:
            return path
        if Path(path).parent != self._directory or not Path(path).name:
            self._warn(path, f"it is not a file in {self._directory}")
        elif len(self._files) >= NETWORK_FILES_MAX:
            self._warn(path, f"netconfs name {NETWORK_FILES_MAX} other files already, the limit")
        else:
            self._files.add(path)
            return path
        return self._default

    def _warn(self, path: str, why: str) -> None:
        if path in self._warned or len(self._warned) >= WARNED_MAX:
            return
        self._warned.add(path)
        _log.warning("wrote the plugin's log to %s instead of %s: %s", self._default, path, why)


class _Line(NamedTuple):
    target: LogTarget
    level: str
    at: float
    fields: dict[str, object]


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class PluginLog:
    """Takes lines and writes them in the background, ``FLUSH_S`` after the first that waits."""

    def __init__(self) -> None:
        # A deque and a clock, not a queue that wakes its reader: that would cost each ADD a switch
        # of threads. Only the first line of a batch wakes the thread.
        self._lines: deque[_Line] = deque()
        self._is_waiting = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._handlers: OrderedDict[str, RotatingFile] = OrderedDict()
        self._unusable: dict[str, float] = {}
        self.dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="plugin-log", daemon=True)
        self._thread.start()

    def write(self, target: LogTarget, level: str, fields: dict[str, object]) -> None:
        """Take one line; never waits."""
        if len(self._lines) >= LINES_WAITING_MAX:
            self.dropped += 1
            return
        self._lines.append(_Line(target, level, time.time(), fields))
        if not self._is_waiting.is_set():
            self._is_waiting.set()

    def close(self, seconds: float = CLOSE_S_MAX) -> None:
        """Write what is there, for at most so long, and close the files."""
        self._ending.set()
        self._is_waiting.set()
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def _run(self) -> None:
        while not self._ending.is_set():
            self._is_waiting.wait()
            self._ending.wait(FLUSH_S)
            self._is_waiting.clear()  # before the lines are taken: none that comes now is forgotten
            self._flush()
        self._flush()
        for handler in self._handlers.values():
            handler.close()

    def _flush(self) -> None:
        """Write the lines that are there, a file's together."""
        batch: dict[LogTarget, list[bytes]] = {}
        for _ in range(len(self._lines)):
            line = self._lines.popleft()
            batch.setdefault(line.target, []).append(_encoded(line))
        for target, lines in batch.items():
            for first in range(0, len(lines), BATCH_LINES_MAX):
                self._append(target, b"\n".join(lines[first : first + BATCH_LINES_MAX]).decode())

    def _append(self, target: LogTarget, text: str) -> None:
        if self._unusable.get(target.path, 0.0) > time.monotonic():
            return
        try:
            handler = self._handler(target)
            handler.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
            self._unusable.pop(target.path, None)
        except (OSError, ValueError) as error:  # a path may have characters that no file has
            self._unusable[target.path] = time.monotonic() + RETRY_S
            _log.warning("the plugin's log %s cannot be written: %s", target.path, error)

    def _handler(self, target: LogTarget) -> RotatingFile:
        """One for each file: of two, one would write on into what the other has put aside."""
        handler = self._handlers.get(target.path)
        if handler is None:
            while len(self._handlers) >= FILES_OPEN_MAX:
                self._handlers.popitem(last=False)[1].close()
            handler = self._handlers[target.path] = RotatingFile(target)
        handler.rotate_as(target)
        self._handlers.move_to_end(target.path)
        return handler


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotated file, private to root, whose old parts also end by age."""

    def __init__(self, target: LogTarget) -> None:
        path = Path(target.path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        super().__init__(path, encoding="utf-8")
        self.setFormatter(_PLAIN)
        self.rotate_as(target)

    def rotate_as(self, target: LogTarget) -> None:
        """From now on: the networks of a node may share a file and differ in this."""
        self.maxBytes = target.megabytes << 20
        self.backupCount = min(target.files, FILES_MAX)
        self._days = target.days

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_at_once)

    def doRollover(self) -> None:  # noqa: N802  # the standard library's name
        """Rotate, and remove old parts that are past their days."""
        super().doRollover()
        oldest = time.time() - self._days * _DAY_S
        for number in range(1, self.backupCount + 1):
            part = Path(f"{self.baseFilename}.{number}")
            if part.exists() and part.stat().st_mtime < oldest:
                part.unlink()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Let the writer know, which reports it once."""
        error = sys.exc_info()[1]
        if error is not None:
            raise error


def _at_once(path: str, flags: int) -> int:
    """Open a regular file, no link to one, without waiting: it may be a FIFO that nobody reads."""
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, _PRIVATE)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(EINVAL, "not a regular file", path)
    return file


def is_logged(level: str, configured: str) -> bool:
    """Whether a line of this level is wanted; the configured one in any case."""
    return LEVELS[level] >= LEVELS[configured.lower()]


def _encoded(line: _Line) -> bytes:
    document = {"level": line.level.upper(), "ts": timestamp(line.at)} | line.fields
    return _encode(document)
