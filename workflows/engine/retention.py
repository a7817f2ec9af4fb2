"""Closed executions leave the store: after a time, or when a shard holds too many of them.

Each becomes one compressed JSON file: its head and its history, readable by anything that reads
JSON. The file is durable before the keys go. Nothing here touches an open execution.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

import msgspec
import zstandard

from core.archive.files import Files
from core.errors import LogCorrupt
from core.store.kv import Delete, Get, Unchanged
from workflows.engine.desk import Desk
from workflows.engine.reading import read_history
from workflows.engine.records import HEAD, Head
from workflows.model.codec import from_json, to_json
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent

RETENTION_S = 24 * 3600.0
"""How long a closed execution stays in the store."""

CLOSED_PER_SHARD_MAX = 10_000
"""Closed executions of a shard; above it the oldest leave early."""

ARCHIVE_FOLDER = "workflows"
"""Inside the archive directory, beside the sealed segments of the log."""

SWEEP_S = 300.0
"""Between two looks at what has been closed."""

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Of an archived execution, decompressed."""

_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """Where closed executions go, and when."""

    files: Files
    retention_s: float = RETENTION_S
    sweep_s: float = SWEEP_S
    closed_max: int = CLOSED_PER_SHARD_MAX


def file_name(run_id: str) -> str:
    """The file of a run."""
    return f"workflow.{run_id}.json.zst"


async def retire(desk: Desk, shard: int, fence: Unchanged, archive: Archive) -> int:
    """Archive what is due in a shard; how many. Raises SessionLost, StoreUnavailable."""
    found = (await desk.store.read([Get(*desk.keys.room("closed", shard))])).ranges[0].kvs
    heads = sorted((HEAD.decode(kv.value) for kv in found), key=lambda head: head.closed_ms)
    before_ms = desk.clock.now_ms() - round(archive.retention_s * 1000)
    surplus = len(heads) - archive.closed_max
    due = [h for index, h in enumerate(heads) if h.closed_ms <= before_ms or index < surplus]
    retired = 0
    for head in due:
        try:
            events = await read_history(desk.store, desk.keys, head.workflow_id, head.run_id)
        except HistoryError as error:
            _log.error("workflow %s, run %s, stays: %s", head.workflow_id, head.run_id, error)
            continue
        await asyncio.to_thread(_write, archive.files, head, events)
        await desk.committer.propose(
            [fence],
            [
                Delete(desk.keys.closed(head.workflow_id, head.run_id)),
                Delete(*desk.keys.history(head.workflow_id, head.run_id)),
                Delete(*desk.keys.attempts(head.workflow_id, head.run_id)),
            ],
        )
        retired += 1
    return retired


def read_archived(files: Files, run_id: str) -> tuple[Head, list[HistoryEvent]] | None:
    """An archived execution, or None. Raises LogCorrupt."""
    name = file_name(run_id)
    if name not in files.names():
        return None
    try:
        data = zstandard.ZstdDecompressor().decompress(
            files.view(name), max_output_size=FILE_BYTES_MAX
        )
        document = msgspec.json.decode(data)
        head = msgspec.convert(document["head"], Head)
        return head, from_json(msgspec.json.encode({"events": document["events"]}))
    except (msgspec.MsgspecError, KeyError, zstandard.ZstdError) as error:
        raise LogCorrupt(f"{name} is no archived execution: {error}", subject=name) from error


def _write(files: Files, head: Head, events: list[HistoryEvent]) -> None:
    events_json = to_json(events)
    document = {
        "workflowId": head.workflow_id,
        "runId": head.run_id,
        "workflowType": head.workflow_type,
        "status": head.status.value,
        "head": head,
        "events": msgspec.json.decode(events_json)["events"],
    }
    name = file_name(head.run_id)
    if name not in files.names():  # an earlier sweep may have died before it deleted the keys
        files.write(name, [zstandard.ZstdCompressor().compress(msgspec.json.encode(document))])
