"""A progress bar for work on the whole log, only if standard error is a terminal."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from core.domain.events import Recorded

Advance = Callable[[int, int], None]
"""Takes the amount done and the total; total 0: unknown."""

REFRESHES_PER_S: Final = 4


def show_nothing(done: int, total: int) -> None:
    """An ``Advance`` without a bar."""


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """Show a bar during the ``with`` block; yield the function that moves the bar."""
    if not sys.stderr.isatty():
        yield show_nothing
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_S
    ) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield advance


async def counted_events(
    batches: AsyncIterator[list[Recorded]], last_position: int, advance: Advance
) -> AsyncIterator[list[Recorded]]:
    """Yield the batches unchanged, and move the bar, which is full at ``last_position``."""
    async for batch in batches:
        if batch:
            advance(batch[-1].position, last_position)
        yield batch
