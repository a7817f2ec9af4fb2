"""A test fails soon, and with the cause, when a program that it uses ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import kmock_server
from tests.support.browser import require_chromium, running_browser

COMMAND_FAILS_WITHIN_S = 30.0
"""Less than pytest's time limit of a test: a command that never ends fails at its ``wait_for``."""


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()]


async def kill_browser_during_a_command(directory: Path) -> None:
    before = set(children_of(os.getpid()))
    async with running_browser(directory) as browser:
        page = await browser.open("about:blank")
        (process,) = set(children_of(os.getpid())) - before
        endless = asyncio.create_task(page.evaluate("new Promise(() => {})"))
        await page.evaluate("1")
        os.kill(process, signal.SIGKILL)
        await endless


async def test_a_command_fails_with_what_the_browser_printed_when_the_browser_is_killed(
    tmp_path: Path,
) -> None:
    require_chromium()
    with pytest.raises(AssertionError, match=r"no answer; Chromium's output: ."):
        await asyncio.wait_for(kill_browser_during_a_command(tmp_path), COMMAND_FAILS_WITHIN_S)


def test_a_simulated_api_server_that_does_not_start_says_why_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> NoReturn:
        raise OSError("no resource can be served")

    monkeypatch.setattr(kmock_server, "ResourceInfo", refuse)
    before = threading.active_count()

    with (
        pytest.raises(AssertionError, match="no resource can be served"),
        kmock_server.MockServer(tmp_path),
    ):
        pass
    assert threading.active_count() == before
