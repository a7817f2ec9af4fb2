"""``orbctl history``: the events of an address or object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.event_summary import refusal_in_words
from core.audit.history import read_history
from core.audit.history_entries import (
    SUBJECT_FORMS,
    History,
    HistoryEntry,
    HistorySubject,
    Stamp,
    SubjectKind,
    parse_subject,
)
from core.audit.object_history import OBJECT_KINDS
from core.domain.events import AllocationRefused
from core.errors import NotFound
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit, report_unreadable_parts
from ops.cli.formats import TABLE_OUTPUT, Output
from ops.cli.global_options import globals_of
from ops.cli.kinds import subject_name
from ops.cli.output import TableColumn, duration, moment, print_names, show_table, show_value
from ops.cli.past_explanation import plain_pool_verdict

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


def history_command(
    context: typer.Context,
    subject: Annotated[
        list[str],
        typer.Argument(
            help="KIND NAME, or one of: an address, a CIDR, NAMESPACE/POD, a UID, a pool, use/POOL,"
            " node/NAME, guid/GUID, subnet/NAME, reservation/NAME, coordinator/NAME,"
            " application/NAMESPACE/NAME or record/KIND/[NAMESPACE/]NAME"
        ),
    ],
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace of a Pod given without one")
    ] = "default",
) -> None:
    """Show all events of an address or an object.

    Examples:
      orbctl history 10.6.0.17
      orbctl history pod shop/web-0
      orbctl history shop/web-0 -o wide
      orbctl history 10.6.0.0/24
      orbctl history deployment shop/web
      orbctl history coordinator default
    """
    output, text = globals_of(context).output, subject_name(subject, namespace)

    async def action(session: ClusterSession) -> Exit:
        unread = UnreadPartList()
        result = await session.read(lambda: _find(session, text, namespace, unread))
        if output.is_structured:
            show_value(_plain(result, unread), output)
        elif output.is_name:
            names = dict.fromkeys(entry.subject for entry in result.entries if entry.subject)
            print_names(names)
        else:
            _show(result, session.now_ms(), output)
        report_unreadable_parts(unread)
        return Exit.OK

    perform(context, action)


async def _find(
    session: ClusterSession, text: str, namespace: str, unread: UnreadPartList
) -> History:
    view = await open_log(session.store, session.keys, session.archive, unread=unread)
    subject = parse_subject(text)
    history = await read_history(view, subject)
    for kind, name in _fallback_subjects(subject, text, namespace):
        if not history.entries:
            history = await read_history(view, HistorySubject(kind, name))
    if not history.entries:
        report_unreadable_parts(unread)
        raise NotFound(f"the log has no event about {subject}", remedy=SUBJECT_FORMS)
    return history


def _fallback_subjects(
    subject: HistorySubject, text: str, namespace: str
) -> list[tuple[SubjectKind, str]]:
    if subject == ("pool", text):
        return [
            ("pod", f"{namespace}/{text}"),
            ("subnet", text),
            ("uid", text),
            ("reservation", text),
            ("node", text),
        ]
    return [("application", text)] if subject == ("pod", text) else []


def show_history(history: History, now_ms: int) -> None:
    """Print a history as a table."""
    _show(history, now_ms, TABLE_OUTPUT)


def _show(history: History, now_ms: int, output: Output) -> None:
    if history.dropped:
        typer.echo(f"{history.dropped:,} older events are not shown", err=True)
    if history.subject.kind in OBJECT_KINDS:
        show_table(
            _OBJECT_COLUMNS, [_object_row(entry, now_ms) for entry in history.entries], output
        )
    else:
        rows = [_holding_row(entry, now_ms) for entry in history.entries]
        # The first column would repeat the subject.
        first_column = 1 if history.subject.kind in ("address", "guid") else 0
        show_table(_HOLDING_COLUMNS[first_column:], [row[first_column:] for row in rows], output)


_HOLDING_COLUMNS = (
    TableColumn("ADDRESS"),
    TableColumn("FROM"),
    TableColumn("TO"),
    TableColumn("LASTED", right=True),
    TableColumn("HELD BY"),
    TableColumn("NODE"),
    TableColumn("POOL"),
    TableColumn("ENDED"),
    TableColumn("UID", wide=True),
    TableColumn("POSITIONS", wide=True),
    TableColumn("ACTOR", wide=True),
    TableColumn("TRACE", wide=True),
)
_OBJECT_COLUMNS = (
    TableColumn("WHEN"),
    TableColumn("AGO", right=True),
    TableColumn("WHAT"),
    TableColumn("BY"),
    TableColumn("DETAIL"),
    TableColumn("POSITION", wide=True, right=True),
)


def _holding_row(entry: HistoryEntry, now_ms: int) -> tuple[str, ...]:
    began, ended = entry.began, entry.ended
    if entry.refusal is not None:
        return _refusal_row(entry, entry.refusal)
    if entry.kind == "binding":
        return _binding_row(entry)
    end_ms = ended.at_ms if ended else now_ms
    quarantined = entry.kind == "quarantined"
    return (
        entry.subject,
        moment(began.at_ms),
        moment(ended.at_ms) if ended else "now",
        duration(end_ms - began.at_ms),
        "(quarantine)" if quarantined else entry.text or f"{entry.namespace}/{entry.pod}",
        entry.node or "-",
        entry.pool or "-",
        _ending(entry),
        entry.uid or "-",
        f"{began.position}-{ended.position if ended else ''}",
        f"{began.actor} → {ended.actor}" if ended else began.actor,
        began.trace_id or "-",
    )


def _refusal_row(entry: HistoryEntry, refusal: AllocationRefused) -> tuple[str, ...]:
    at = entry.began
    pools = ", ".join(dict.fromkeys(verdict.pool for verdict in refusal.verdicts))
    return (
        "-",
        moment(at.at_ms),
        "-",
        "-",
        "(refused)",
        entry.node or "-",
        pools or "-",
        refusal_in_words(refusal),
        entry.uid or "-",
        str(at.position),
        at.actor,
        at.trace_id or "-",
    )


def _binding_row(entry: HistoryEntry) -> tuple[str, ...]:
    at = entry.began
    return (
        entry.subject,
        moment(at.at_ms),
        "-",
        "-",
        f"{entry.namespace}/{entry.pod}",
        entry.node or "-",
        "-",
        entry.text,
        entry.uid or "-",
        str(at.position),
        at.actor,
        at.trace_id or "-",
    )


def _ending(entry: HistoryEntry) -> str:
    if entry.kind == "quarantined":
        return f"{entry.reason} ({entry.evidence})" if entry.evidence else entry.reason
    if entry.ended is None:
        return "-"
    return f"{entry.reason}: {entry.evidence}" if entry.evidence else entry.reason


def _object_row(entry: HistoryEntry, now_ms: int) -> tuple[str, ...]:
    at = entry.began
    return (
        moment(at.at_ms),
        duration(now_ms - at.at_ms),
        entry.kind,
        at.actor,
        entry.text or "-",
        str(at.position),
    )


_JSON_NAMES: Final = {"index_in_segment": "place"}


def _plain(history: History, unread: UnreadPartList) -> dict[str, Any]:
    return {
        "subject": {"kind": history.subject.kind, "name": history.subject.name},
        "facts": [_plain_entry(entry) for entry in history.entries],
        "dropped": history.dropped,
        "unread": [part._asdict() for part in unread.parts()],
    }


def _plain_entry(entry: HistoryEntry) -> dict[str, Any]:
    fields = entry._asdict() | {
        "began": _plain_stamp(entry.began),
        "ended": _plain_stamp(entry.ended) if entry.ended else None,
        "refusal": _plain_refusal(entry.refusal) if entry.refusal else "",
    }
    return {name: value for name, value in fields.items() if value != ""}


def _plain_refusal(refusal: AllocationRefused) -> dict[str, Any]:
    verdicts = [plain_pool_verdict(verdict) for verdict in refusal.verdicts]
    names = ("interface", "message", "remedy", "source", "times", "left_out")
    return {name: getattr(refusal, name) for name in names} | {"verdicts": verdicts}


def _plain_stamp(stamp: Stamp) -> dict[str, Any]:
    named = {_JSON_NAMES.get(name, name): value for name, value in stamp._asdict().items()}
    fields = named | {"time": moment(stamp.at_ms)}
    return {name: value for name, value in fields.items() if value != ""}
