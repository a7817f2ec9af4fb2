"""Archived executions as files, in one folder for each day on which executions closed.

``<directory>/<year-month-day>/workflow.<run>.json.zst`` is a compressed JSON document of a head and
a history. Older versions of Orbweaver wrote files into the directory itself: these are read too,
and pruned by modification time. The functions block: call them in a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import zstandard

from core.archive.archive_directory import LocalFiles
from core.errors import LogCorrupt
from workflows.engine.store.keys import RUN_ID_CHARS
from workflows.engine.store.records import RunHead
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent
from workflows.model.history_json import from_json, to_json

ARCHIVE_FOLDER = "workflows"

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of a decompressed file."""

PRUNED_PER_STEP_MAX = 1_000

FILES_LISTED_MAX = 200_000

DAY_MS = 86_400_000

_NAME = re.compile(rf"workflow\.([0-9a-f]{{{RUN_ID_CHARS}}})\.json\.zst")


def file_name(run_id: str) -> str:
    """The name of a run's file."""
    return f"workflow.{run_id}.json.zst"


class ExecutionFiles:
    """The archived executions below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, head: RunHead, events: list[HistoryEvent]) -> None:
        """Write the file of a closed run durably, unless it exists. Raises OSError."""
        day = self._directory / _day(head.closed_ms)
        name = file_name(head.run_id)
        if (day / name).exists():
            return  # a worker died after it wrote the file, and before it deleted the keys in etcd
        if not day.exists():
            day.mkdir(parents=True, exist_ok=True)
            _sync(self._directory)
        document = {
            "workflowId": head.workflow_id,
            "runId": head.run_id,
            "workflowType": head.workflow_type,
            "status": head.status.value,
            "head": head,
            "events": msgspec.json.decode(to_json(events))["events"],
        }
        data = zstandard.ZstdCompressor().compress(msgspec.json.encode(document))
        LocalFiles(day).write(name, [data])

    def read(self, run_id: str) -> tuple[RunHead, list[HistoryEvent]] | None:
        """An archived execution, or None. Raises LogCorrupt."""
        if len(run_id) != RUN_ID_CHARS or not run_id.isalnum():
            return None
        name = file_name(run_id)
        for folder in [*reversed(self._days()), self._directory]:
            if (folder / name).is_file():
                return _decoded(name, LocalFiles(folder).view(name))
        return None

    def exists(self) -> bool:
        """Whether any execution is archived."""
        return any(True for folder in [*self._days(), self._directory] for _ in _files(folder))

    def runs_closed_after(self, after_ms: int) -> set[str]:
        """The ids of archived runs in the folders of days that ended after ``after_ms``.

        Includes all runs in the directory itself. Reads at most ``FILES_LISTED_MAX`` file names,
        the oldest days first.
        """
        days = [day for day in self._days() if _end_ms(day.name) > after_ms]
        names = (file.name for folder in [*days, self._directory] for file in _files(folder))
        matches = (_NAME.fullmatch(name) for name in islice(names, FILES_LISTED_MAX))
        return {match[1] for match in matches if match is not None}

    def prune(self, before_ms: int, *, files_max: int = PRUNED_PER_STEP_MAX) -> int:
        """Delete at most ``files_max`` files of days that ended before ``before_ms``, oldest first.

        Returns the number of deleted files. Raises OSError.
        """
        remaining = files_max
        for day in self._days():
            if _end_ms(day.name) > before_ms or not remaining:
                break
            for file in islice(_files(day), remaining):
                file.unlink(missing_ok=True)
                remaining -= 1
            if remaining:
                shutil.rmtree(day, ignore_errors=True)
        for file in islice(_files(self._directory), remaining):
            if file.stat().st_mtime * 1000 <= before_ms:
                file.unlink(missing_ok=True)
                remaining -= 1
        return files_max - remaining

    def _days(self) -> list[Path]:
        """The folders of days, oldest first."""
        if not self._directory.is_dir():
            return []
        with os.scandir(self._directory) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and _is_day(entry.name)]
        return [self._directory / name for name in sorted(names)]


async def read_archived(
    files: ExecutionFiles | None, run_id: str
) -> tuple[RunHead, list[HistoryEvent]] | None:
    """Read an execution in a thread; None if it is not archived. Raises LogCorrupt."""
    if files is None:
        return None
    return await asyncio.to_thread(files.read, run_id)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    yield Path(entry.path)


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def _is_day(name: str) -> bool:
    try:
        return datetime.strptime(name, "%Y-%m-%d").replace(tzinfo=UTC).year > 0
    except ValueError:
        return False


def _end_ms(day: str) -> int:
    begin = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    return round(begin.timestamp() * 1000) + DAY_MS


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decoded(name: str, view: memoryview) -> tuple[RunHead, list[HistoryEvent]]:
    try:
        data = zstandard.ZstdDecompressor().decompress(view, max_output_size=FILE_BYTES_MAX)
        document = msgspec.json.decode(data)
        head = msgspec.convert(document["head"], RunHead)
        return head, from_json(msgspec.json.encode({"events": document["events"]}))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, HistoryError) as error:
        raise _no_execution(name, error) from error
    except zstandard.ZstdError as error:
        raise _no_execution(name, error) from error


def _no_execution(name: str, error: Exception) -> LogCorrupt:
    return LogCorrupt(
        f"{name} is not an archived execution: {error}",
        subject=name,
        remedy="restore it from a copy of the archive, or run the version that wrote it",
    )
