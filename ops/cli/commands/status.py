"""``orbctl status``: the state of etcd, log, archive and controllers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from core.archive.archiver import LIVE_SEGMENTS_MAX
from core.archive.cursor import CURSOR_KEYS, ArchiveCursor, cursor_key
from core.audit.index_check import find_undecodable_keys
from core.domain.validation.common_rules import counted
from core.eventstore.codec import KeyKind, WriterHead
from core.eventstore.election import LEADER_KEYS, Leader
from core.eventstore.full_etcd import alarm_error
from core.eventstore.keys import key_text
from core.eventstore.kv import Get, KeyValue, RangeResult
from core.eventstore.log_reader import read_heads
from core.eventstore.undecodable_values import ContainedFault, Faults
from core.projections.publisher import CHECKPOINT_KEYS, CHECKPOINT_NAME, Checkpoint
from ops.cli.action_runner import perform
from ops.cli.global_options import globals_of
from ops.cli.output import (
    TableColumn,
    duration,
    moment,
    print_fields,
    print_heading,
    show_table,
    show_value,
)
from ops.kinds import STATUS_KINDS
from ops.settings import CONTROLLER_ROLE

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

T = TypeVar("T")

UNREADABLE_SHOWN_MAX: Final = 20
NEWEST_HEADS_MAX: Final = 64
"""Writers searched for the newest event; several, as a head can change without an event."""


class ClusterStatus:
    """The state of the cluster at one revision.

    ``live_segments``: number of segments in etcd. ``counts``: kind -> number of keys. ``leader``:
    the leading controller and its epoch.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.read_ms = 0.0
        self.heads: dict[str, WriterHead] = {}
        self.live_segments = 0
        self.counts: dict[str, int] = {}
        self.archive: ArchiveCursor | None = None
        self.checkpoint: Checkpoint | None = None
        self.leader: tuple[Leader, int] | None = None
        self.newest_position = 0
        self.unreadable: list[ContainedFault] = []
        self.alarms: tuple[str, ...] = ()


def status_command(context: typer.Context) -> None:
    """Show the state of etcd, writers, log, archive and projector.

    Examples:
      orbctl status
      orbctl status -o json
    """
    options = globals_of(context)

    async def action(session: ClusterSession) -> None:
        state = await _read(session)
        if options.output.is_structured:
            show_value(_plain(session, state), options.output)
        else:
            _show(session, state)

    perform(context, action)


async def _read(session: ClusterSession) -> ClusterStatus:
    keys, status, faults = session.keys, ClusterStatus(), Faults(logged=False)

    def read(kind: KeyKind[T], answer: RangeResult) -> T | None:
        kv = answer.first
        return kind.read(keys, kv.key, kv.value, faults) if kv is not None else None

    scopes = ("pool", "reservation", "endpoint", "ip", "quarantine")
    gets = [
        Get(*keys.range_of("head")),
        Get(*keys.range_of("log"), count_only=True),
        Get(cursor_key(keys)),
        Get(keys.meta(CHECKPOINT_NAME)),
        Get(keys.lease(CONTROLLER_ROLE)),
        *(Get(*keys.range_of(scope), count_only=True) for scope in scopes),
    ]
    started = time.perf_counter()
    result = await session.store.read(gets)
    status.read_ms = (time.perf_counter() - started) * 1000
    status.revision = result.revision
    status.alarms = await session.store.alarms()
    heads, log, cursor, checkpoint, leader, *counts = result.ranges
    status.live_segments = log.count
    status.counts = {
        scope: keys_in_scope.count for scope, keys_in_scope in zip(scopes, counts, strict=True)
    }
    status.archive = read(CURSOR_KEYS, cursor)
    # Writer -> last archived segment, for a writer whose head cannot be decoded.
    archived_seqs = status.archive.seqs if status.archive else {}
    status.heads = await read_heads(
        session.store, keys, heads.kvs, result.revision, faults, archived_seqs
    )
    position = status.archive.position if status.archive else 0
    status.newest_position = max(position, await _newest_event(session, heads.kvs, status.heads))
    status.checkpoint = read(CHECKPOINT_KEYS, checkpoint)
    elected = read(LEADER_KEYS, leader)
    if elected is not None:
        status.leader = elected, leader.kvs[0].mod_revision
    status.unreadable = await find_undecodable_keys(session.store, keys, STATUS_KINDS)
    return status


async def _newest_event(
    session: ClusterSession, kvs: Sequence[KeyValue], heads: Mapping[str, WriterHead]
) -> int:
    """The position of the newest event in etcd; 0 if no segment is found."""
    keys = session.keys
    newest = sorted(kvs, key=lambda kv: kv.mod_revision, reverse=True)[:NEWEST_HEADS_MAX]
    writers = [key_text(keys, kv.key).partition("/")[2] for kv in newest]
    gets = [
        Get(keys.log(writer, heads[writer].seq), keys_only=True)
        for writer in writers
        if writer in heads
    ]
    if not gets:
        return 0
    answers = (await session.store.read(gets)).ranges
    return max((kv.mod_revision for answer in answers for kv in answer.kvs), default=0)


def _show(session: ClusterSession, status: ClusterStatus) -> None:
    endpoints = ", ".join(session.settings.etcd.endpoints)
    endpoint_count = counted(status.counts["endpoint"], "endpoint")
    holds = f"{counted(status.counts['ip'], 'claim')} of {endpoint_count}"
    print_fields(
        (
            ("cluster", session.settings.cluster),
            ("etcd", f"{endpoints}, revision {status.revision}, {status.read_ms:.1f} ms"),
            ("alarm", _alarm(status.alarms)),
            ("state", f"{counted(status.counts['pool'], 'pool')}, {holds}"),
            ("live log", _live(status)),
            ("archive", _archive(session, status.archive)),
            ("controller", _leader(session, status)),
            ("projector", _projector(session, status)),
        )
    )
    print()
    show_table(
        (
            TableColumn("WRITER"),
            TableColumn("EPOCH", right=True),
            TableColumn("SEGMENTS", right=True),
        ),
        [(name, str(head.epoch), str(head.seq)) for name, head in sorted(status.heads.items())],
    )
    _show_unreadable(status.unreadable)


def _show_unreadable(faults: Sequence[ContainedFault]) -> None:
    if not faults:
        return
    count = counted(len(faults), "key")
    print_heading(f"\n{count} cannot be read; the other keys are used")
    for fault in faults[:UNREADABLE_SHOWN_MAX]:
        print(f"  {fault.why}\n    → {fault.remedy}")
    if len(faults) > UNREADABLE_SHOWN_MAX:
        print(f"  ... {len(faults) - UNREADABLE_SHOWN_MAX:,} more (-o json and `orbctl verify`)")


def _alarm(alarms: Sequence[str]) -> str:
    return str(alarm_error(alarms)) if alarms else ""


def _live(status: ClusterStatus) -> str:
    share = 100 * status.live_segments / LIVE_SEGMENTS_MAX
    count = counted(status.live_segments, "segment")
    return f"{count}, {share:.0f} % of the limit of {LIVE_SEGMENTS_MAX:,}"


def _archive(session: ClusterSession, cursor: ArchiveCursor | None) -> str:
    if cursor is None or not cursor.files:
        return "nothing sealed yet"
    age = duration(session.now_ms() - cursor.clock_ms)
    files = counted(cursor.files, "file")
    return f"{files}, all events up to position {cursor.position} ({age} ago)"


def _leader(session: ClusterSession, status: ClusterStatus) -> str:
    if status.leader is None:
        return (
            "no leader elected: reports, metrics and the archive are not updated; Pods are not"
            " affected"
        )
    leader, epoch = status.leader
    since = duration(session.now_ms() - leader.since_ms)
    return f"{leader.name} has led for {since}, epoch {epoch}"


def _projector(session: ClusterSession, status: ClusterStatus) -> str:
    checkpoint = status.checkpoint
    if checkpoint is None:
        return "has never published"
    newest = status.newest_position
    behind = f"behind: at position {checkpoint.position}, the newest event is at {newest}"
    progress = "up to date" if checkpoint.position >= newest else behind
    return f"{progress}, published {duration(session.now_ms() - checkpoint.at_ms)} ago"


def _plain(session: ClusterSession, status: ClusterStatus) -> dict[str, Any]:
    cursor, checkpoint = status.archive, status.checkpoint
    return {
        "cluster": session.settings.cluster,
        "endpoints": list(session.settings.etcd.endpoints),
        "revision": status.revision,
        "alarms": list(status.alarms),
        "counts": status.counts,
        "liveSegments": status.live_segments,
        "writers": {
            name: {"epoch": head.epoch, "segments": head.seq}
            for name, head in sorted(status.heads.items())
        },
        "archive": {"files": cursor.files, "position": cursor.position} if cursor else None,
        "leader": (
            {
                "name": status.leader[0].name,
                "since": moment(status.leader[0].since_ms),
                "epoch": status.leader[1],
            }
            if status.leader
            else None
        ),
        "projector": (
            {
                "position": checkpoint.position,
                "newestEvent": status.newest_position,
                "published": moment(checkpoint.at_ms),
            }
            if checkpoint
            else None
        ),
        "unreadable": [fault._asdict() for fault in status.unreadable],
    }
