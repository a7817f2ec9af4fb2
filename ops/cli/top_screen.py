"""The screen of ``orbctl top``."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from core.audit.recent_activity import Activity, PoolActivity, RecentRefusal
from core.domain.validation.common_rules import counted
from core.process.concurrency import until_first
from core.projections.projection import Projection
from ops.cli.output import TableColumn, duration, moment, table_of

REFRESH_S: Final = 0.5
IDLE_S: Final = 1.0
"""The screen is drawn after this time even without an event, because the rates fall."""

QUIT_KEYS: Final = (b"q", b"Q", b"\x03", b"\x1b")
"""q, Ctrl-C and Escape."""

LINES_OUTSIDE_ROWS: Final = 8

REFUSALS_SHOWN: Final = 5
WRITERS_SHOWN: Final = 8
POOL_ROWS_MIN: Final = 3
"""Even a small terminal shows this many pools."""

_POOLS: Final = (
    TableColumn("POOL"),
    *(TableColumn(title, right=True) for title in ("USED", "FREE", "TOTAL")),
    *(TableColumn(title, right=True) for title in ("CLAIMS/MIN", "RELEASES/MIN", "REFUSED/MIN")),
)
_WRITERS: Final = (
    TableColumn("WRITER"),
    TableColumn("EVENTS/MIN", right=True),
    TableColumn("LAST-EVENT", right=True),
)
_REFUSALS: Final = (TableColumn("REFUSED"), TableColumn("POD"), TableColumn("REASON"))


class PoolLine(NamedTuple):
    """A pool. ``used`` and ``total`` exclude reserved and quarantined addresses."""

    name: str
    used: int
    total: int
    free: int
    activity: PoolActivity

    @property
    def percent(self) -> int:
        """The used share in percent, rounded down; 100 if the pool has no addresses."""
        return self.used * 100 // self.total if self.total else 100


class WriterLine(NamedTuple):
    """A writer: its events in the last minute, and the time of its newest event."""

    name: str
    events: int
    newest_ms: int


class ActivityBoard(NamedTuple):
    """The content of the screen. The fullest pools and the newest refusals come first."""

    now_ms: int
    position: int
    claims: int
    pools: Sequence[PoolLine]
    writers: Sequence[WriterLine]
    refusals: Sequence[RecentRefusal]


def board_of(projection: Projection, activity: Activity, now_ms: int) -> ActivityBoard:
    """The board at ``now_ms``, with the last minute's activity."""
    minute = activity.minute(now_ms)
    pools = []
    for name, tally in projection.tallies.items():
        counts = tally.counts
        total = counts.total - counts.reserved - counts.quarantined
        used = total - counts.free
        pools.append(PoolLine(name, used, total, counts.free, minute.of_pool(name)))
    pools.sort(key=lambda line: (-line.percent, line.name))
    writers = [
        WriterLine(name, minute.event_count(name), newest_ms)
        for name, newest_ms in sorted(
            activity.newest_ms.items(), key=lambda item: (-item[1], item[0])
        )
    ]
    ledger = projection.ledger
    refusals = list(reversed(activity.refusals))
    return ActivityBoard(now_ms, projection.position, len(ledger.claims), pools, writers, refusals)


def screen_of(board: ActivityBoard, lines: int = 0) -> RenderableType:
    """Draw the board. ``lines``: the terminal's height; 0: all rows."""
    refusals, writers = board.refusals, board.writers
    pools = board.pools
    if lines:
        refusals, writers = refusals[:REFUSALS_SHOWN], writers[:WRITERS_SHOWN]
        pool_rows = lines - LINES_OUTSIDE_ROWS - len(refusals) - len(writers)
        pools = pools[: max(pool_rows, POOL_ROWS_MIN)]
    parts: list[RenderableType] = [Text(_heading(board)), Text("")]
    parts.append(table_of(_POOLS, map(_pool_row, pools)))
    if len(pools) < len(board.pools):
        parts.append(Text(f"... {counted(len(board.pools) - len(pools), 'more pool')}"))
    if writers:
        rows = ((line.name, str(line.events), _ago(board, line.newest_ms)) for line in writers)
        parts += [Text(""), table_of(_WRITERS, rows)]
    if refusals:
        rows = (
            (moment(refusal.recorded_at_ms), refusal.pod, _reason(refusal)) for refusal in refusals
        )
        parts += [Text(""), table_of(_REFUSALS, rows)]
    return Group(*parts)


def plain_board(board: ActivityBoard) -> dict[str, Any]:
    """The board for JSON and YAML."""
    return {
        "position": board.position,
        "claims": board.claims,
        "pools": [
            {"name": line.name, "used": line.used, "total": line.total, "free": line.free}
            | line.activity._asdict()
            for line in board.pools
        ],
        "writers": [line._asdict() for line in board.writers],
        "refusals": [refusal._asdict() for refusal in board.refusals],
    }


class TopScreen:
    """Draws the board that ``read`` returns until a quit key is pressed."""

    def __init__(self, console: Console, read: Callable[[], ActivityBoard]) -> None:
        self._console = console
        self._read = read
        self._changed = asyncio.Event()
        self._quits = asyncio.Event()

    def note_change(self) -> None:
        """Draw the board again soon."""
        self._changed.set()

    def press(self, keys: bytes) -> None:
        """Quit if one of these bytes is a quit key."""
        if any(key in keys for key in QUIT_KEYS):
            self._quits.set()

    async def run(self) -> None:
        """Draw until the user quits."""
        await until_first(self._draw(), self._quits.wait())

    async def _draw(self) -> None:
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                self._changed.clear()
                screen = screen_of(self._read(), self._console.height)
                live.update(screen, refresh=True)
                await asyncio.sleep(REFRESH_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S):
                        await self._changed.wait()


@contextmanager
def keys_of(terminal: IO[str], press: Callable[[bytes], None]) -> Iterator[None]:
    """Pass each key to ``press`` when it is typed. The terminal does not show the key."""
    descriptor = terminal.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, lambda: press(os.read(descriptor, 64)))
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def is_interactive() -> bool:
    """Whether standard input and output are terminals."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _heading(board: ActivityBoard) -> str:
    claimed = sum(line.activity.claimed for line in board.pools)
    pools = counted(len(board.pools), "pool")
    claims = counted(board.claims, "claim")
    return (
        f"{moment(board.now_ms)}   position {board.position}   {pools}, {claims},"
        f" {claimed:,} claimed in the last minute"
    )


def _pool_row(line: PoolLine) -> tuple[str, ...]:
    sizes = f"{line.percent}%", f"{line.free:,}", f"{line.total:,}"
    return line.name, *sizes, *(str(count) for count in line.activity)


def _ago(board: ActivityBoard, at_ms: int) -> str:
    return duration(board.now_ms - at_ms)


def _reason(refusal: RecentRefusal) -> str:
    first_line = refusal.message.partition("\n")[0]
    return f"{refusal.reason}: {first_line}"
