"""Exports the log to a file, as JSON lines or in raw form.

    raw    a stream of msgpack arrays: first ["orbweaver-log", 1, cluster, revision], then
           [position, writer, seq, data] for each segment, last [count, chain]

``count``: the number of segments. ``chain``: their hash chain, as in ``core.archive.file_format``.

A log cannot be written into another etcd: release events name etcd revisions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, Final, TextIO

import msgpack
import msgspec

from core.archive.file_format import CHAIN_START, chained
from core.archive.replay import LogView
from core.domain.events import EVENT_VERSIONS, TYPE_NAMES, Recorded
from core.errors import BadInput, LogCorrupt
from core.eventstore.kv import REQUEST_BYTES_MAX
from core.eventstore.log_reader import Segment

RAW_FORMAT: Final = "orbweaver-log"
RAW_VERSION: Final = 1
ITEM_BYTES_MAX = 2 * REQUEST_BYTES_MAX
"""Limit of one array of a raw export."""

_json = msgspec.json.Encoder()
_raw = msgspec.msgpack.Encoder()

_EXPORTED_NAMES: Final = {"conflicting_host": "stranger"}
"""Name of a field in the code -> its name in exports."""


async def export_lines(events: AsyncIterator[list[Recorded]], out: TextIO) -> int:
    """Write one line for each event; return the number of lines."""
    count = 0
    async for batch in events:
        out.writelines(f"{line_of(recorded)}\n" for recorded in batch)
        count += len(batch)
    return count


def line_of(recorded: Recorded) -> str:
    """One event as JSON. ``time`` is ``recorded_at_ms`` in UTC."""
    name = TYPE_NAMES[type(recorded.event)]
    at = datetime.fromtimestamp(recorded.recorded_at_ms / 1000, UTC)
    line = {
        "position": recorded.position,
        "place": recorded.index_in_segment,  # exports keep the former name
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": name,
        "version": EVENT_VERSIONS[name],
        "event_id": recorded.event_id,
        "writer": recorded.writer,
        **recorded.cause._asdict(),
        "body": _with_field_names(recorded.event),
    }
    return _json.encode(line).decode()


async def export_raw(
    view: LogView,
    cluster: str,
    out: BinaryIO,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the complete log in raw form; return the number of segments.

    ``on_progress`` receives the position of the last written segment, and the position of the
    log's end. Raises BadInput if the archive was pruned.
    """
    if view.sealed.cursor.pruned.files:
        raise BadInput(
            "a raw export needs the complete log, but the beginning of the log was pruned",
            subject="raw",
            remedy="export JSON lines, or use a copy of the archive that still has the beginning",
        )
    out.write(_raw.encode([RAW_FORMAT, RAW_VERSION, cluster, view.revision]))
    count, chain = 0, CHAIN_START
    async for batch in view.batches():
        out.writelines(_raw.encode(segment) for segment in batch.segments)
        chain = chained(chain, batch.segments)
        count += len(batch.segments)
        if on_progress is not None and batch.segments:
            on_progress(batch.segments[-1].position, view.revision)
    out.write(_raw.encode([count, chain]))
    return count


def read_raw_export(source: BinaryIO) -> Iterator[Segment]:
    """Yield the segments of a raw export; check the count and the chain last.

    Raises BadInput if the file is not a raw export or has an unknown version, and LogCorrupt if
    the export is incomplete or was changed.
    """
    items = _items(source)
    try:
        head = next(items, None)
    except LogCorrupt:
        head = None
    name, version = (*(head or ()), None, None)[:2]
    if name != RAW_FORMAT or not isinstance(version, int):
        raise BadInput(
            "the file is not a raw export of a log",
            subject="raw export",
            remedy="create one with `orbctl export --raw`",
        )
    if version != RAW_VERSION:
        raise BadInput(
            f"the raw export has the unknown format version {version}",
            subject="raw export",
            remedy=f"use a release that reads version {version}",
        )
    count, chain = 0, CHAIN_START
    for item in items:
        if len(item) == len(Segment._fields):
            segment = _segment(item)
            chain = chained(chain, [segment])
            count += 1
            yield segment
        elif item == [count, chain] and next(items, None) is None:
            return
        else:
            break
    raise _corrupt("was changed, or its end is missing")


def _items(source: BinaryIO) -> Iterator[list[object]]:
    unpacker = msgpack.Unpacker(source, max_buffer_size=ITEM_BYTES_MAX, strict_map_key=False)
    try:
        for item in unpacker:
            if not isinstance(item, list):
                raise _corrupt("has an item that is not an array")
            yield item
    except (ValueError, msgpack.UnpackException) as error:
        raise _corrupt(f"is not msgpack: {error}") from error


def _segment(item: list[object]) -> Segment:
    try:
        return msgspec.convert(item, Segment)
    except msgspec.ValidationError as error:
        raise _corrupt(f"has an item that is not a segment: {error}") from error


def _with_field_names(value: object) -> object:
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        parts = [_with_field_names(part) for part in value]
        if fields is None:
            return parts
        return dict(zip((_EXPORTED_NAMES.get(name, name) for name in fields), parts, strict=True))
    return value


def _corrupt(what: str) -> LogCorrupt:
    return LogCorrupt(f"the raw export {what}", subject="raw export", remedy="export it again")
