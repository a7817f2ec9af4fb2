"""``orbctl diff``: compares the states at two times or log positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from core.archive.replay import LogView, open_log
from core.audit.comparison import COMPARED_KINDS, Change, compare_states
from core.audit.state_at import as_of_position, as_of_time
from core.domain.evolution import Ledger
from core.errors import BadInput
from ops.cli.action_runner import perform
from ops.cli.formats import Output
from ops.cli.output import TableColumn, print_names, show_table, show_value
from ops.cli.session import ClusterSession
from ops.cli.time_arguments import parse_time

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_COLUMNS: Final = (TableColumn(""), TableColumn("NAME"), TableColumn("WHAT"))


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="a time (14:03, 15m, ISO 8601) or a log position")],
    after: Annotated[str, typer.Argument(help="a time or a log position; default: now")] = "",
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help=f"one of {', '.join(COMPARED_KINDS)}; repeatable"),
    ] = None,
) -> None:
    """Show which objects and addresses differ between two times.

    Examples:
      orbctl diff 1h
      orbctl diff 14:03 15:10 --kind address
      orbctl diff 2026-03-01 2026-03-02 -o json
    """
    for kind in kinds or []:
        if kind not in COMPARED_KINDS:
            raise BadInput(
                f"kind {kind[:64]!r} cannot be compared",
                subject="--kind",
                remedy=f"use one of {', '.join(COMPARED_KINDS)}",
            )

    async def action(session: ClusterSession) -> None:
        changes = [
            change
            for change in await session.read(lambda: _changes_between(session, before, after))
            if not kinds or change.kind in kinds
        ]
        _show(changes, session.output)

    perform(context, action)


async def _changes_between(session: ClusterSession, before: str, after: str) -> list[Change]:
    view = await open_log(session.store, session.keys, session.archive)
    old = await _state(view, before, session.now_ms)
    new = await _state(view, after or str(view.revision), session.now_ms)
    return list(compare_states(old, new))


async def _state(view: LogView, when: str, now_ms: Callable[[], int]) -> Ledger:
    if when.isdigit():
        return await as_of_position(view, int(when))
    return await as_of_time(view, parse_time(when, now_ms()))


def _show(changes: list[Change], output: Output) -> None:
    if output.is_name:
        print_names(f"{change.kind}/{change.name}" for change in changes)
    elif output.is_structured:
        show_value({"changes": [change._asdict() for change in changes]}, output)
    elif changes:
        rows = [
            (_SIGNS[change.change], f"{change.kind}/{change.name}", change.what or "-")
            for change in changes
        ]
        show_table(_COLUMNS, rows, output)
    else:
        typer.echo("no differences", err=True)
