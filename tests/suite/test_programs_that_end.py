"""A test fails soon, and with the cause, when a program that it uses ends."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.browser import require_chromium, running_browser

ENOUGH_S = 30.0
"""Less than the time limit of a test, so that a test which waits without a limit fails here."""


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()]


async def test_a_page_fails_with_what_the_browser_printed_when_the_browser_is_killed(
    tmp_path: Path,
) -> None:
    require_chromium()
    before = set(children_of(os.getpid()))
    with pytest.raises(AssertionError, match=r"did not answer; it printed: ."):
        async with asyncio.timeout(ENOUGH_S), running_browser(tmp_path) as browser:
            page = await browser.open("about:blank")
            (process,) = set(children_of(os.getpid())) - before
            endless = asyncio.create_task(page.evaluate("new Promise(() => {})"))
            await page.evaluate("1")
            os.kill(process, signal.SIGKILL)
            await endless
