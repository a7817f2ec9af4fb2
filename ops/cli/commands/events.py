"""``orbctl events``: shows events of the log; writes nothing.

Past events are read at one etcd revision, and ``--follow`` continues from this revision, so
that no event is missed.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import typer

from core.archive.replay import open_log
from core.archive.sealed_log import FileSummary
from core.archive.unread_parts import UnreadPartList
from core.audit.event_summary import EventFilter, EventSummary, check_types, summary_of
from core.audit.log_export import line_of
from core.domain.addresses.ip_address import require_address
from core.domain.events import EVENT_TYPES, Recorded
from core.domain.validation.common_rules import counted
from core.errors import BadInput
from core.eventstore.log_reader import Cursor, LogReader, Segment
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit, report_unreadable_parts
from ops.cli.formats import Format, Output
from ops.cli.global_options import globals_of
from ops.cli.output import TableColumn, moment, show_table
from ops.cli.session import ClusterSession
from ops.cli.time_arguments import parse_time

EVENTS_MAX: Final = 100_000
"""Limit of past events that one run shows."""

SEARCHED_EVENTS: Final = 100_000

_COLUMNS: Final = (
    TableColumn("TIME"),
    TableColumn("TYPE"),
    TableColumn("SUBJECT"),
    TableColumn("DETAIL"),
    TableColumn("BY", wide=True),
    TableColumn("POSITION", wide=True, right=True),
)
_TYPE_WIDTH: Final = max(map(len, EVENT_TYPES))
_SUBJECT_WIDTH: Final = 32


def events_command(
    context: typer.Context,
    since: Annotated[
        str,
        typer.Option(help="events after this time (14:03, 15m, ISO 8601); default: see --search"),
    ] = "",
    search: Annotated[
        int,
        typer.Option(min=0, help="without --since: search this many of the newest archived events"),
    ] = SEARCHED_EVENTS,
    limit: Annotated[
        int, typer.Option(min=0, max=EVENTS_MAX, help="show at most this many of the newest events")
    ] = 50,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="then show new events until interrupted")
    ] = False,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="events of this type; repeatable")
    ] = None,
    pool: Annotated[str, typer.Option(help="events that name this pool")] = "",
    pod: Annotated[str, typer.Option(help="events of NAMESPACE/POD")] = "",
    node: Annotated[str, typer.Option(help="events of this node's Pods, or of its agent")] = "",
    address: Annotated[str, typer.Option(help="events that name this address")] = "",
    actor: Annotated[str, typer.Option(help="events whose actor contains this text")] = "",
) -> None:
    """Show events of the log, one on each line.

    Without --since, the live log and the newest 100,000 archived events are searched (--search).
    With -o json, each line is one event with all its fields, as in `orbctl export`.

    Examples:
      orbctl events
      orbctl events --since 1h --pool lan
      orbctl events --follow --type addresses-claimed --node node-a
      orbctl events --follow -o json
    """
    conditions = EventFilter(
        check_types(type_ or [], "--type"),
        pool,
        pod,
        node,
        str(require_address(address, "--address")) if address else "",
        actor,
    )
    output = globals_of(context).output
    if output.is_structured and output.format is not Format.JSON:
        raise BadInput(
            f"events have no output format {output.format}",
            subject="--output",
            remedy="use table, wide, csv, name or json",
        )

    async def action(session: ClusterSession) -> Exit:
        after_ms = parse_time(since, session.now_ms()) if since else 0
        period = _Period(after_ms, search)
        recent, cursor, not_searched = await session.read(
            lambda: _past_events(session, conditions, period, limit)
        )
        _show(recent, output, needs_header=follow and output.format is Format.CSV)
        if not_searched and len(recent) < limit:
            note = f"{counted(not_searched, 'older event')} not searched: give --since or --search"
            print(note, file=sys.stderr)
        if follow:
            async for segments, _ in LogReader(session.store, session.keys).follow(cursor):
                for segment in segments:
                    _stream(_matching_events(readable_events(segment), conditions), output)
        return Exit.OK

    perform(context, action)


def readable_events(segment: Segment) -> list[Recorded]:
    """The segment's events. Prints a warning if the segment cannot be decoded."""
    unreadable = UnreadPartList()
    events = unreadable.events_of(segment)
    report_unreadable_parts(unreadable)
    return events


Match = tuple[Recorded, EventSummary]


class _Period(NamedTuple):
    """``after_ms`` 0 selects the live log and at least the ``searched`` newest archived events."""

    after_ms: int
    searched: int


async def _past_events(
    session: ClusterSession, conditions: EventFilter, period: _Period, limit: int
) -> tuple[list[Match], Cursor, int]:
    """The newest matches, a cursor for new events, and the number of events not searched."""
    unreadable = UnreadPartList()
    view = await open_log(session.store, session.keys, session.archive, unread=unreadable)
    if period.after_ms:
        after, not_searched = view.sealed.snapshot_at_time(period.after_ms).ledger.position, 0
    else:
        after, not_searched = start_of_search(view.sealed.summaries(), period.searched)
    newest: deque[Match] = deque(maxlen=limit)
    async for batch in view.events(after):
        recent = (recorded for recorded in batch if recorded.recorded_at_ms >= period.after_ms)
        newest.extend(_matching_events(recent, conditions))
    report_unreadable_parts(unreadable)
    _, heads = await LogReader(session.store, session.keys).heads(revision=view.revision)
    cursor = Cursor(view.revision, {writer: head.seq for writer, head in heads.items()})
    return [*newest], cursor, not_searched


def start_of_search(files: Sequence[FileSummary], events: int) -> tuple[int, int]:
    """Position where the search starts, and the number of archived events before it.

    ``files``: oldest first. The search takes whole files, newest first, until the taken files
    have at least ``events`` events.
    """
    searched = 0
    for index in range(len(files), 0, -1):
        newest = files[index - 1]
        if searched >= events:
            return newest.last_position, sum(file.events for file in files[:index])
        searched += newest.events
    return 0, 0


def _matching_events(events: Iterable[Recorded], conditions: EventFilter) -> Iterable[Match]:
    for recorded in events:
        summary = summary_of(recorded)
        if conditions.matches(recorded, summary):
            yield recorded, summary


def _show(events: list[Match], output: Output, *, needs_header: bool) -> None:
    """Print the past events. ``needs_header``: print the header also without events."""
    if output.is_structured or output.is_name:
        _stream(events, output)
    elif events or needs_header:
        show_table(_COLUMNS, [_row(recorded, summary) for recorded, summary in events], output)
        sys.stdout.flush()


def _stream(events: Iterable[Match], output: Output) -> None:
    """Print each event at once: the column widths cannot depend on later events."""
    for recorded, summary in events:
        if output.is_name:
            print(summary.subject)
        elif output.is_structured:
            print(line_of(recorded))
        elif output.format is Format.CSV:
            show_table(_COLUMNS, [_row(recorded, summary)], output, header=False)
        else:
            at, type_, subject, detail, actor, position = _row(recorded, summary)
            line = f"{at}   {type_:<{_TYPE_WIDTH}}   {subject:<{_SUBJECT_WIDTH}}   {detail}"
            print(f"{line}   {actor}   {position}" if output.is_wide else line)
    sys.stdout.flush()


def _row(recorded: Recorded, summary: EventSummary) -> tuple[str, ...]:
    return (
        moment(recorded.recorded_at_ms),
        summary.type,
        summary.subject,
        summary.detail or "-",
        recorded.cause.actor,
        str(recorded.position),
    )
