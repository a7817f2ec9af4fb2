"""The progress of commands that read or write the whole log: a bar on a terminal.

On standard error, and only where that is a terminal, so results, pipes and logs of Jobs never
contain it. It is removed when the command has ended.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from core.domain.events import Recorded

Advance = Callable[[int, int], None]
"""The amount done, and the total; 0: unknown."""

REFRESHES_PER_S: Final = 4


def ignore(done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show a bar with this title while the block runs; call the value with the amount done."""
    if not sys.stderr.isatty():
        yield ignore
        return
    from rich.console import Console  # noqa: PLC0415  # costs only who sees it
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
    ) as shown:
        task = shown.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total or None)

        yield advance


async def counted_events(
    events: AsyncIterator[list[Recorded]], last: int, advance: Advance
) -> AsyncIterator[list[Recorded]]:
    """The same batches; how far they are is the position of the newest event, of ``last``."""
    async for batch in events:
        if batch:
            advance(batch[-1].position, last)
        yield batch
