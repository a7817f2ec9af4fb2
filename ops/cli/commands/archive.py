"""``orbctl archive``: seals the live log, lists and deletes archive files.

Sealing moves events from etcd into archive files. Run it where the controllers'
archive directory is mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.archive.archiver import Archiver, SealResult
from core.archive.cursor import read_cursor
from core.archive.nospace import ROOT_REMEDY, FullLogArchiver
from core.archive.pruner import (
    Pruner,
    PruneResult,
    Retention,
    SizedFile,
    count_surplus,
    sized_files,
)
from core.archive.sealed_log import SealedLog
from core.domain.validation.common_rules import counted
from core.errors import BadInput
from core.eventstore.etcd.maintenance import EtcdMaintenance
from core.eventstore.full_etcd import NOSPACE
from ops.cli.action_runner import Yes, confirm, perform
from ops.cli.exit_codes import Exit, fail
from ops.cli.formats import Format
from ops.cli.output import (
    TableColumn,
    moment,
    print_fields,
    print_names,
    show_table,
    show_value,
)
from ops.cli.progress import progress
from ops.cli.time_arguments import parse_duration

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(help="Archive the live log now; show or shorten the archive.")

_COLUMNS: Final = (
    TableColumn("NUMBER", right=True),
    TableColumn("POSITIONS"),
    TableColumn("EVENTS", right=True),
    TableColumn("BYTES", right=True),
    TableColumn("SEALED"),
    TableColumn("FILE", wide=True),
)


@app.callback(invoke_without_command=True)
def seal(
    context: typer.Context,
    upto: Annotated[
        int | None, typer.Option(min=1, help="archive events up to this log position")
    ] = None,
) -> None:
    """Seal the live log into archive files now; a controller does so when the log grows too long.

    If etcd is full (alarm NOSPACE), frees space first, which requires etcd's user root.

    Examples:
      orbctl archive
      orbctl archive --upto 5000
    """
    if context.invoked_subcommand is not None:
        return

    async def action(session: ClusterSession) -> None:
        with progress("archive"):  # no total: it is known only at the end
            sealed = await _seal(session, upto)
        if session.output.is_structured:
            show_value(sealed._asdict(), session.output)
        elif sealed.superseded:
            typer.echo("another archiver finished first, so nothing was archived", err=True)
        else:
            what = f"{counted(sealed.events, 'event')} in {counted(sealed.segments, 'segment')}"
            print(
                f"{what} sealed into {counted(sealed.files, 'file')} in {session.settings.archive},"
                f" up to position {sealed.position}"
            )

    perform(context, action)


async def _seal(session: ClusterSession, upto: int | None) -> SealResult:
    if NOSPACE in await session.store.alarms():
        return await _seal_full(session, upto)
    archiver = Archiver(session.store, session.keys, session.archive, now_ms=session.now_ms)
    return await archiver.seal(upto)


async def _seal_full(session: ClusterSession, upto: int | None) -> SealResult:
    typer.echo("etcd's database is full (alarm NOSPACE): freeing space for the archive", err=True)
    archiver = FullLogArchiver(
        session.store,
        session.keys,
        session.archive,
        EtcdMaintenance(session.settings.etcd),
        now_ms=session.now_ms,
    )
    result = await archiver.seal(upto)
    if not result.is_defragmented:
        typer.echo(f"etcd's members were not defragmented: {ROOT_REMEDY}", err=True)
    return result.sealed


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """Show the files of the archive, and what was pruned before them.

    Examples:
      orbctl archive list
    """

    async def action(session: ClusterSession) -> None:
        cursor = (await read_cursor(session.store, session.keys)).cursor
        files = sized_files(SealedLog(session.archive, cursor))
        if session.output.is_structured:
            show_value(
                {"pruned": cursor.pruned.position, "files": _documents(files)}, session.output
            )
            return
        if session.output.is_name:
            print_names(sized_file.summary.link.base for sized_file in files)
            return
        show_table(_COLUMNS, map(_row, files), session.output)
        if session.output.format is Format.CSV:
            return
        pruned = f"{counted(cursor.pruned.files, 'file')}, up to position {cursor.pruned.position}"
        print_fields(
            (
                ("total", f"{sum(sized_file.size for sized_file in files):,} bytes"),
                ("pruned", pruned if cursor.pruned.files else ""),
            )
        )

    perform(context, action)


@app.command()
def prune(
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", help="only files older than this, such as 400d")
    ] = "",
    keep_bytes: Annotated[
        int,
        typer.Option("--keep-bytes", min=0, help="keep at most this many bytes; 0: no limit"),
    ] = 0,
    yes: Yes = False,
) -> None:
    """Delete the oldest files for good: their events can no longer be shown.

    Examples:
      orbctl archive prune --older-than 400d
      orbctl archive prune --keep-bytes 1000000000 --yes
    """
    if not (older_than or keep_bytes):
        raise BadInput(
            "no limit is given, so no file would be deleted",
            subject="retention",
            remedy="give --older-than or --keep-bytes",
        )

    async def action(session: ClusterSession) -> None:
        retention = Retention(age_s=parse_duration(older_than), bytes_max=keep_bytes)
        cursor = (await read_cursor(session.store, session.keys)).cursor
        files = sized_files(SealedLog(session.archive, cursor))
        count = count_surplus(files, retention, session.now_ms())
        pruned = PruneResult(cursor.pruned.position)
        if count:
            if not confirm(_question(files[:count]), yes=yes):
                fail("nothing was deleted", Exit.FAILED, "answer yes, or give --yes")
            pruner = Pruner(session.store, session.keys, session.archive)
            pruned = await pruner.prune(retention, session.now_ms(), files=count)
        if session.output.is_structured:
            show_value(pruned._asdict(), session.output)
        elif pruned.superseded:
            typer.echo("the archive changed meanwhile; nothing was deleted", err=True)
        elif not pruned.files:
            typer.echo("no file exceeds the limits, so none is deleted", err=True)
        else:
            removed = counted(pruned.files, "file")
            print(
                f"{removed} deleted, {pruned.bytes_freed:,} bytes; the archive begins after"
                f" position {pruned.position}"
            )

    perform(context, action)


def _question(files: list[SizedFile]) -> str:
    last = files[-1].summary.last_position
    return f"Delete {counted(len(files), 'file')}, with all events up to position {last}?"


def _row(sized_file: SizedFile) -> tuple[str, ...]:
    file = sized_file.summary
    return (
        str(file.number),
        f"{file.first_position}-{file.last_position}",
        f"{file.events:,}",
        f"{sized_file.size:,}",
        moment(file.sealed_at_ms),
        file.link.base,
    )


def _documents(files: list[SizedFile]) -> list[dict[str, object]]:
    return [
        {
            "number": sized_file.summary.number,
            "file": sized_file.summary.link.base,
            "first": sized_file.summary.first_position,
            "last": sized_file.summary.last_position,
            "events": sized_file.summary.events,
            "bytes": sized_file.size,
            "sealedAt": moment(sized_file.summary.sealed_at_ms),
        }
        for sized_file in files
    ]
