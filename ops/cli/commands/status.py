"""``orbctl status``: is everything well: etcd, writers, live log, archive, projector."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import typer

from core.archive.archiver import LIVE_SEGMENTS_MAX
from core.archive.cursor import CURSORS, ArchiveCursor, cursor_key
from core.audit.index_check import scan
from core.eventstore.codec import WriterHead
from core.eventstore.election import LEADERS, Leader
from core.eventstore.faults import ContainedFault, Faults
from core.eventstore.heads import read_heads
from core.eventstore.kinds import KeyKind, key_text
from core.eventstore.kv import Get, KeyValue, RangeResult
from core.eventstore.space import alarmed
from core.projections.publisher import CHECKPOINT, CHECKPOINT_KIND, Checkpoint
from ops.cli.context import perform
from ops.cli.exits import Exit
from ops.cli.global_options import globals_of
from ops.cli.output import TableColumn, age, counted, heading, moment, pairs, show_table, show_value
from ops.cli.session import ClusterSession
from ops.kinds import STATUS_KINDS
from ops.settings import CONTROLLER_ROLE

T = TypeVar("T")

UNREADABLE_SHOWN_MAX: Final = 20
NEWEST_HEADS_MAX: Final = 64
"""Heads asked for the newest event; the newest of them nearly always has it."""


class ClusterStatus:
    """What was read, at one revision."""

    def __init__(self) -> None:
        self.revision = 0
        self.answered_ms = 0.0
        self.heads: dict[str, WriterHead] = {}
        self.live = 0
        self.counts: dict[str, int] = {}
        self.archive: ArchiveCursor | None = None
        self.checkpoint: Checkpoint | None = None
        self.leader: tuple[Leader, int] | None = None
        self.newest = 0
        self.unreadable: list[ContainedFault] = []
        self.alarms: tuple[str, ...] = ()


def status(context: typer.Context) -> None:
    """Show the state of etcd, writers, log, archive and projector.

    Examples:
      orbctl status
      orbctl status -o json
    """
    said = globals_of(context)

    async def action(session: ClusterSession) -> Exit:
        found = await _read(session)
        if said.output.is_plain:
            show_value(_plain(session, found), said.output)
        else:
            _show(session, found)
        return Exit.OK

    perform(context, action)


async def _read(session: ClusterSession) -> ClusterStatus:
    keys, found, faults = session.keys, ClusterStatus(), Faults(logged=False)

    def read(kind: KeyKind[T], answer: RangeResult) -> T | None:
        kv = answer.first
        return faults.read(kind, keys, kv.key, kv.value) if kv is not None else None

    rooms = ("pool", "reservation", "endpoint", "ip", "quarantine")
    gets = [
        Get(*keys.range_of("head")),
        Get(*keys.range_of("log"), count_only=True),
        Get(cursor_key(keys)),
        Get(keys.meta(CHECKPOINT)),
        Get(keys.lease(CONTROLLER_ROLE)),
        *(Get(*keys.range_of(room), count_only=True) for room in rooms),
    ]
    asked = time.perf_counter()
    result = await session.store.read(gets)
    found.answered_ms = (time.perf_counter() - asked) * 1000
    found.revision = result.revision
    found.alarms = await session.store.alarms()
    heads, log, cursor, checkpoint, leader, *counts = result.ranges
    found.live = log.count
    found.counts = {room: one.count for room, one in zip(rooms, counts, strict=True)}
    found.archive = read(CURSORS, cursor)
    sealed = found.archive.seqs if found.archive else {}
    found.heads = await read_heads(session.store, keys, heads.kvs, result.revision, faults, sealed)
    position = found.archive.position if found.archive else 0
    found.newest = max(position, await _newest_event(session, heads.kvs, found.heads))
    found.checkpoint = read(CHECKPOINT_KIND, checkpoint)
    leads = read(LEADERS, leader)
    if leads is not None:
        found.leader = leads, leader.kvs[0].mod_revision
    found.unreadable = await scan(session.store, keys, STATUS_KINDS)
    return found


async def _newest_event(
    session: ClusterSession, found: Sequence[KeyValue], heads: Mapping[str, WriterHead]
) -> int:
    """The newest live event: a head may also change without one, so its segment is asked for."""
    keys = session.keys
    newest = sorted(found, key=lambda kv: kv.mod_revision, reverse=True)[:NEWEST_HEADS_MAX]
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


def _show(session: ClusterSession, found: ClusterStatus) -> None:
    endpoints = ", ".join(session.settings.etcd.endpoints)
    holds = (
        f"{counted(found.counts['ip'], 'claim')} of {counted(found.counts['endpoint'], 'endpoint')}"
    )
    pairs(
        (
            ("cluster", session.settings.cluster),
            ("etcd", f"{endpoints}, revision {found.revision}, {found.answered_ms:.1f} ms"),
            ("alarm", _alarm(found.alarms)),
            ("state", f"{counted(found.counts['pool'], 'pool')}, {holds}"),
            ("live log", _live(found)),
            ("archive", _archive(session, found.archive)),
            ("controller", _leader(session, found)),
            ("projector", _projector(session, found)),
        )
    )
    print()
    show_table(
        (
            TableColumn("WRITER"),
            TableColumn("EPOCH", right=True),
            TableColumn("SEGMENTS", right=True),
        ),
        [(name, str(head.epoch), str(head.seq)) for name, head in sorted(found.heads.items())],
    )
    _show_unreadable(found.unreadable)


def _show_unreadable(faults: Sequence[ContainedFault]) -> None:
    if not faults:
        return
    count = counted(len(faults), "key")
    heading(f"\n{count} cannot be read; all other keys are used without them")
    for fault in faults[:UNREADABLE_SHOWN_MAX]:
        print(f"  {fault.why}\n    → {fault.remedy}")
    if len(faults) > UNREADABLE_SHOWN_MAX:
        print(f"  ... {len(faults) - UNREADABLE_SHOWN_MAX:,} more (-o json and `orbctl verify`)")


def _alarm(alarms: Sequence[str]) -> str:
    return str(alarmed(alarms)) if alarms else ""


def _live(found: ClusterStatus) -> str:
    share = 100 * found.live / LIVE_SEGMENTS_MAX
    return f"{counted(found.live, 'segment')}, {share:.0f} % of the bound of {LIVE_SEGMENTS_MAX:,}"


def _archive(session: ClusterSession, cursor: ArchiveCursor | None) -> str:
    if cursor is None or not cursor.files:
        return "nothing sealed yet"
    sealed = age(session.now_ms() - cursor.clock_ms)
    files = counted(cursor.files, "file")
    return f"{files}, everything up to position {cursor.position}, {sealed} ago by the log's clock"


def _leader(session: ClusterSession, found: ClusterStatus) -> str:
    if found.leader is None:
        return (
            "no controller leads: reports, metrics and the archive are not updated; Pods are not"
            " affected"
        )
    leader, epoch = found.leader
    return f"{leader.name} leads for {age(session.now_ms() - leader.since_ms)}, epoch {epoch}"


def _projector(session: ClusterSession, found: ClusterStatus) -> str:
    checkpoint = found.checkpoint
    if checkpoint is None:
        return "has never published"
    behind = (
        f"behind: the projection is at {checkpoint.position}, the newest event is {found.newest}"
    )
    level = "level with the log" if checkpoint.position >= found.newest else behind
    return f"{level}, published {age(session.now_ms() - checkpoint.at_ms)} ago"


def _plain(session: ClusterSession, found: ClusterStatus) -> dict[str, Any]:
    cursor, checkpoint = found.archive, found.checkpoint
    return {
        "cluster": session.settings.cluster,
        "endpoints": list(session.settings.etcd.endpoints),
        "revision": found.revision,
        "alarms": list(found.alarms),
        "counts": found.counts,
        "liveSegments": found.live,
        "writers": {
            name: {"epoch": head.epoch, "segments": head.seq}
            for name, head in sorted(found.heads.items())
        },
        "archive": {"files": cursor.files, "position": cursor.position} if cursor else None,
        "leader": (
            {
                "name": found.leader[0].name,
                "since": moment(found.leader[0].since_ms),
                "epoch": found.leader[1],
            }
            if found.leader
            else None
        ),
        "projector": (
            {
                "position": checkpoint.position,
                "newestEvent": found.newest,
                "published": moment(checkpoint.at_ms),
            }
            if checkpoint
            else None
        ),
        "unreadable": [fault._asdict() for fault in found.unreadable],
    }
