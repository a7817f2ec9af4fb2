"""The screen of ``orbctl top``: rows, keyboard keys and redrawing."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import termios

import pytest
from rich.console import Console

from core.audit.recent_activity import PoolActivity, RecentRefusal
from ops.cli.top_screen import (
    QUIT_KEYS,
    ActivityBoard,
    PoolLine,
    TopScreen,
    WriterLine,
    keys_of,
    screen_of,
)

NOW_MS = 1_767_268_800_000
IDLE = PoolActivity(claimed=0, released=0, refused=0)


def board(pools: int = 1, *, name: str = "pool") -> ActivityBoard:
    lines = [
        PoolLine(f"{name}-{number}", used=1, total=4, free=3, activity=IDLE)
        for number in range(pools)
    ]
    writers = [WriterLine("node-a", events=2, newest_ms=NOW_MS - 5_000)]
    refusals = [RecentRefusal(NOW_MS, "shop/web-1", "used-out", "no address\ndetails")]
    return ActivityBoard(
        NOW_MS, position=7, claims=1, pools=lines, writers=writers, refusals=refusals
    )


def lines_of_screen(content: ActivityBoard, lines: int = 0) -> list[str]:
    """``lines``: the height of the terminal; 0 for no limit."""
    console = Console(width=100, color_system=None)
    rows = console.render_lines(screen_of(content, lines), pad=False)
    return ["".join(segment.text for segment in row) for row in rows]


def test_the_screen_has_as_many_lines_as_the_terminal() -> None:
    lines = lines_of_screen(board(50), 24)

    assert len(lines) == 24
    assert any(line.startswith("... ") and "more pools" in line for line in lines)
    assert not any("more pool" in line for line in lines_of_screen(board(50)))


def test_the_screen_shows_one_line_per_refusal_and_a_writers_age() -> None:
    text = "\n".join(lines_of_screen(board()))

    assert "used-out: no address" in text
    assert "details" not in text
    assert "5s" in text


def test_a_pool_without_usable_addresses_is_100_percent_full() -> None:
    assert PoolLine("p", used=0, total=0, free=0, activity=IDLE).percent == 100


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=24)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("key", QUIT_KEYS)
async def test_a_quit_key_ends_the_screen(key: bytes) -> None:
    screen = TopScreen(terminal(), board)
    running = asyncio.create_task(screen.run())

    screen.press(b"x")
    await asyncio.sleep(0)
    assert not running.done()
    screen.press(key)

    async with asyncio.timeout(30):
        await running


async def test_a_change_is_drawn_on_the_screen() -> None:
    console, boards = terminal(), [board(name="before")]
    reads: asyncio.Queue[ActivityBoard] = asyncio.Queue()

    def read() -> ActivityBoard:
        reads.put_nowait(boards[-1])
        return boards[-1]

    screen = TopScreen(console, read)
    running = asyncio.create_task(screen.run())
    async with asyncio.timeout(30):
        await reads.get()
        boards.append(board(name="after"))
        screen.note_change()
        while await reads.get() is not boards[-1]:
            pass
    screen.press(b"q")
    await running

    assert text_of(console).index("before-0") < text_of(console).index("after-0")


async def test_keys_are_read_without_enter_and_the_terminal_is_restored() -> None:
    master, slave = pty.openpty()
    pressed: asyncio.Queue[bytes] = asyncio.Queue()
    with os.fdopen(slave, "r") as stream, os.fdopen(master, "wb", buffering=0) as user:
        before = termios.tcgetattr(stream.fileno())
        with keys_of(stream, pressed.put_nowait):
            user.write(b"q")
            async with asyncio.timeout(30):
                assert await pressed.get() == b"q"

        assert termios.tcgetattr(stream.fileno()) == before
