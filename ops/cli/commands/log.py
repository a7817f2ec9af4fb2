"""``orbctl export`` and ``orbctl replay``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.archive.replay import LogView, advance_clock, open_log
from core.audit.log_export import export_lines, export_raw, read_raw_export
from core.domain.log_checker import Checker
from core.domain.validation.common_rules import counted
from core.errors import BadInput, LogError
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit, report
from ops.cli.formats import TABLE_OUTPUT
from ops.cli.global_options import globals_of
from ops.cli.kinds import ObjectKind
from ops.cli.object_selection import ObjectSelection, listing_of
from ops.cli.output import print_fields, print_heading, show, show_value
from ops.cli.progress import counted_events, progress
from ops.cli.time_arguments import parse_time

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

STANDARD_OUTPUT: Final = Path("-")


def export(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="output file; default: standard output")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="write the stored bytes, with a hash chain")
    ] = False,
    after: Annotated[int, typer.Option(min=0, help="events after this log position")] = 0,
    upto: Annotated[int | None, typer.Option(min=0, help="events up to this log position")] = None,
) -> None:
    """Write the log to a file, as JSON lines or raw.

    Examples:
      orbctl export events.jsonl
      orbctl export --after 1000 --upto 2000
      orbctl export --raw log.raw
    """
    if raw and (after or upto is not None):
        raise BadInput(
            "--raw exports the whole log: --after and --upto are not allowed",
            subject="raw",
            remedy="leave out --raw, or leave out --after and --upto",
        )
    target = None if file == STANDARD_OUTPUT else file

    async def action(session: ClusterSession) -> None:
        view = await open_log(session.store, session.keys, session.archive)
        last = view.revision if upto is None else min(upto, view.revision)
        if raw:
            count = await _export_raw(view, session.settings.cluster, target)
            what = counted(count, "segment")
        else:
            what = counted(await _export_lines(view, target, after, last), "event")
        typer.echo(f"{what}, up to position {last}", err=True)

    perform(context, action)


async def _export_raw(view: LogView, cluster: str, file: Path | None) -> int:
    if file is None:
        return await export_raw(view, cluster, sys.stdout.buffer)
    with file.open("xb") as out, progress("export") as advance:
        return await export_raw(view, cluster, out, advance)


async def _export_lines(view: LogView, file: Path | None, after: int, last: int) -> int:
    events = view.events(after, last)
    if file is None:
        return await export_lines(events, sys.stdout)
    with file.open("x", encoding="utf-8") as out, progress("export") as advance:
        return await export_lines(counted_events(events, last, advance), out)


def replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="a raw export")],
    upto: Annotated[
        str, typer.Option(help="stop at this log position or time, as in `orbctl as-of`")
    ] = "",
) -> None:
    """Replay a raw export without etcd, and check every rule.

    Examples:
      orbctl replay log.raw
      orbctl replay log.raw --upto 2026-03-01
    """
    options = globals_of(context)
    now_ms = options.process.now_ms()
    last_position = int(upto) if upto.isdigit() else math.inf
    last_ms = parse_time(upto, now_ms) if upto and not upto.isdigit() else math.inf
    try:
        checker, events, violations = _replay(file, last_position, last_ms, now_ms)
    except LogError as error:
        report(error)
        raise typer.Exit(Exit.DIFFERENT) from None
    if options.output.is_structured:
        show_value(
            {"events": events, "position": checker.ledger.position, "violations": violations},
            options.output,
        )
    else:
        _show_replayed(checker, events, violations)
    raise typer.Exit(Exit.DIFFERENT if violations else Exit.OK)


def _replay(
    file: Path, last_position: float, last_ms: float, now_ms: int
) -> tuple[Checker, int, list[str]]:
    """The checker, the number of events, and the broken rules."""
    if not file.is_file():
        raise BadInput(
            f"{file} is not a file",
            subject="file",
            remedy="pass a file that `orbctl export --raw` has written",
        )
    checker, events, clock_ms = Checker(), 0, 0
    violations: list[str] = []
    with file.open("rb") as source, progress("replay") as advance:
        size = file.stat().st_size
        # Read to the end: only the last hash proves that the file is complete.
        for segment in read_raw_export(source):
            advance(source.tell(), size)
            for recorded in segment.events():
                clock_ms = advance_clock(clock_ms, recorded, now_ms)
                if recorded.position <= last_position and clock_ms <= last_ms:
                    violations += map(str, checker.check(recorded))
                    events += 1
    return checker, events, violations


def _show_replayed(checker: Checker, events: int, violations: list[str]) -> None:
    ledger = checker.ledger
    print_fields(
        (
            ("events", f"{events:,}, the last one at position {ledger.position}"),
            ("rules", f"{len(violations):,} BROKEN" if violations else "all hold"),
            ("claims", f"{len(ledger.claims):,} of {counted(len(ledger.endpoints), 'endpoint')}"),
        )
    )
    for line in violations:
        print(f"  {line}")
    if ledger.pools:
        print_heading("\nPools")
        pools = ObjectSelection(ObjectKind.POOL, name="", namespace="", output=TABLE_OUTPUT)
        show(listing_of(ledger, pools), TABLE_OUTPUT)
