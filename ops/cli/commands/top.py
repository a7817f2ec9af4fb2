"""``orbctl top``: shows the activity of the cluster, live on a terminal. Writes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from core.archive.replay import open_log
from core.audit.recent_activity import Activity
from core.eventstore.log_reader import Cursor, LogReader
from core.eventstore.state_reader import read_ledger
from core.process.concurrency import until_first
from core.projections.projection import Projection
from core.projections.projector import Projector
from ops.cli.action_runner import perform
from ops.cli.output import console, print_rich, show_value
from ops.cli.top_screen import (
    TopScreen,
    board_of,
    is_interactive,
    keys_of,
    plain_board,
    screen_of,
)

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


def top(context: typer.Context) -> None:
    """Show pools, rates, refused ADDs and writers, live on a terminal.

    The fullest pools come first. Rates are those of the last minute. Press q to quit.
    Without a terminal, or with -o json, one screen is printed.

    Examples:
      orbctl top
      orbctl top -o json
    """

    async def action(session: ClusterSession) -> None:
        activity, cursor = await session.read(lambda: _read_activity(session))
        if is_interactive() and not session.output.is_structured:
            await _show_live(session, activity, cursor)
            return
        ledger = await read_ledger(session.store, session.keys)
        board = board_of(Projection(ledger), activity, session.now_ms())
        if session.output.is_structured:
            show_value(plain_board(board), session.output)
        else:
            print_rich(screen_of(board))

    perform(context, action)


async def _read_activity(session: ClusterSession) -> tuple[Activity, Cursor]:
    """The activity in the live log, and the end of that log."""
    activity = Activity()
    view = await open_log(session.store, session.keys, session.archive)
    async for batch in view.events(view.sealed.cursor.position):  # after the archived part
        activity.note(batch, session.now_ms())
    _, heads = await LogReader(session.store, session.keys).heads(revision=view.revision)
    seqs = {writer: head.seq for writer, head in heads.items()}
    return activity, Cursor(view.revision, seqs)


async def _show_live(session: ClusterSession, activity: Activity, cursor: Cursor) -> None:
    """Show the activity until the user quits. Raises StoreError, LogError."""
    projector = Projector(session.store, session.keys)
    screen = TopScreen(
        console(), lambda: board_of(projector.projection, activity, session.now_ms())
    )

    async def note_events() -> None:
        async for segments, _ in LogReader(session.store, session.keys).follow(cursor):
            for segment in segments:
                activity.note(segment.events(), session.now_ms())
            screen.note_change()

    async def draw() -> None:
        await projector.wait_for(lambda: projector.ready)
        await screen.run()

    with keys_of(sys.stdin, screen.press):
        await until_first(projector.run(), note_events(), draw())
