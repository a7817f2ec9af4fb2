"""Several works at once: what fails in one of them is raised, and no other is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

Work = Coroutine[Any, Any, object]


async def until_first(*works: Work) -> None:
    """Run all until one of them ends; stop the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stop(tasks)
    for task in done:
        task.result()


async def until_all(*works: Work) -> None:
    """Run all to their ends; when one fails, stop the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _stop(tasks)


async def _stop(tasks: Sequence[asyncio.Future[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
