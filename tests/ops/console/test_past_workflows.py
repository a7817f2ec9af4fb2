"""Workflows at a past instant: lists, histories, and archived executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import unix_ms
from ops.console.console_data import ConsoleSource
from ops.console.json_values import time_ms_of, time_text
from tests.support.console_harness import served_console
from tests.support.engine_harness import EngineHarness, eventually
from tests.support.engine_samples import Basket
from workflows.engine.client import visibility_at_instant
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.worker.retention import ARCHIVE_RETENTION_S, RETENTION_S, Archive
from workflows.engine.worker.worker import WorkerOptions
from workflows.model.policies import ExecutionStatus

ID = "basket/of-ann"
DAY_S = 86_400


@pytest.fixture
async def engine() -> AsyncIterator[EngineHarness]:
    engine = EngineHarness(MemoryStore())
    yield engine
    await engine.close()


class PastConsole:
    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url

    async def get(self, path: str, at_ms: int, *, status: int = 200) -> Any:
        query = {"at": time_text(at_ms)}
        async with self._client.get(f"{self._url}api/v1/{path}", params=query) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def statuses(self, at_ms: int) -> dict[str, int]:
        """Status -> number of executions."""
        statuses: dict[str, int] = (await self.get("workflows", at_ms))["statuses"]
        return statuses


@asynccontextmanager
async def past_console(engine: EngineHarness, directory: Path) -> AsyncIterator[PastConsole]:
    source = ConsoleSource(engine.store, engine.keys, directory, cluster="test")
    async with served_console(source) as url, aiohttp.ClientSession() as client:
        yield PastConsole(client, url)


async def time_between_events() -> int:
    """A time (Unix, in milliseconds) at which no event occurs."""
    await asyncio.sleep(0.01)
    now_ms = unix_ms()
    await asyncio.sleep(0.01)
    return now_ms


async def basket_with_a_past(engine: EngineHarness) -> dict[str, int]:
    """Run a workflow until it completes; return a time after each step."""
    times = {"before": await time_between_events()}
    await engine.client.start(Basket, id=ID)
    await engine.until_status(ID, ExecutionStatus.RUNNING)
    times["running"] = await time_between_events()
    await engine.client.pause(ID, "the disk is full")
    await engine.until_status(ID, ExecutionStatus.PAUSED)
    times["paused"] = await time_between_events()
    await engine.client.retry(ID)
    await engine.until_status(ID, ExecutionStatus.RUNNING)
    await engine.client.signal(ID, "put", "bread")
    times["signaled"] = await time_between_events()
    await engine.client.signal(ID, "close")
    assert await engine.client.result(ID) == ["bread"]
    times["closed"] = await time_between_events()
    return times


async def test_lists_histories_and_searches_show_the_requested_instant(
    engine: EngineHarness, tmp_path: Path
) -> None:
    await engine.start_worker()
    times = await basket_with_a_past(engine)
    async with past_console(engine, tmp_path) as console:
        assert await console.statuses(times["before"]) == {}
        assert await console.statuses(times["running"]) == {"Running": 1}
        assert await console.statuses(times["closed"]) == {"Completed": 1}

        (paused,) = (await console.get("workflows?status=Paused", times["paused"]))["items"]
        assert (paused["id"], paused["waitsFor"], paused["closed"]) == (
            ID,
            "paused by client: the disk is full",
            None,
        )
        assert (await console.get("workflows?status=Completed", times["paused"]))["items"] == []

        answer = await console.get(f"workflows/{ID}", times["paused"])
        assert answer["workflow"]["status"] == "Paused"
        assert answer["history"][-1]["type"] == "WorkflowExecutionPaused"
        assert len(answer["history"]) == answer["workflow"]["events"]
        signaled = await console.get(f"workflows/{ID}", times["signaled"])
        assert signaled["workflow"]["status"] == "Running"

        (hit,) = (await console.get("search?q=of-ann", times["paused"]))["hits"]
        assert (hit["name"], hit["detail"]) == (ID, "Basket, Paused")
        assert (await console.get("search?q=of-ann", times["before"]))["hits"] == []
        started = time_ms_of(paused["started"], "started")
        at_start = await console.get(f"workflows/{ID}?run={paused['run']}", started)
        assert at_start["workflow"]["status"] == "Running"
        error = await console.get(f"workflows/{ID}", times["before"], status=404)
        assert "had no run at the requested time" in error["error"]["message"]
        run = f"workflows/{ID}?run={paused['run']}"
        error = await console.get(run, times["before"], status=404)
        assert "started after the requested time" in error["error"]["message"]


async def test_an_execution_that_has_left_etcd_is_read_from_the_archive(
    engine: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ExecutionFiles(tmp_path / "workflows")
    archive = Archive(files, retention_s=0.0, sweep_s=0.01)
    await engine.start_worker(options=WorkerOptions(archive=archive))
    times = await basket_with_a_past(engine)

    async def is_archived() -> bool:
        return files.exists() and not [head async for head in engine.visibility.heads()]

    await eventually(is_archived)
    async with past_console(engine, tmp_path) as console:
        assert await console.statuses(times["before"]) == {}
        assert await console.statuses(times["paused"]) == {"Paused": 1}
        assert await console.statuses(times["closed"]) == {"Completed": 1}
        answer = await console.get(f"workflows/{ID}", times["paused"])
        assert answer["history"][-1]["type"] == "WorkflowExecutionPaused"

        monkeypatch.setattr(visibility_at_instant, "ARCHIVED_READ_MAX", 0)
        limited = await console.get("workflows", times["closed"])
        assert limited["items"] == []
        assert limited["missing"] == ["older archived executions that were not read: 1"]

        monkeypatch.undo()
        next((tmp_path / "workflows").glob("*/*.zst")).write_bytes(b"dust")
    async with past_console(engine, tmp_path) as console:
        damaged = await console.get("workflows", times["paused"])
        assert damaged["missing"] == ["executions that cannot be read: 1"]


async def test_a_list_says_which_closed_executions_are_missing(
    engine: EngineHarness, tmp_path: Path
) -> None:
    now_ms = unix_ms()
    async with past_console(engine, tmp_path) as console:
        recent = await console.get("workflows", now_ms - 1_000)
        assert recent["missing"] == []
        (missing,) = (await console.get("workflows", now_ms - 2 * DAY_S * 1000))["missing"]
        boundary = time_text(now_ms - round(RETENTION_S * 1000))[:10]
        assert f"executions that closed before {boundary}" in missing

        (tmp_path / "workflows" / "2026-01-01").mkdir(parents=True)
        name = f"workflow.{now_ms:012x}{'0' * 20}.json.zst"
        (tmp_path / "workflows" / "2026-01-01" / name).touch()
        last_week = await console.get("workflows", now_ms - 7 * DAY_S * 1000)
        assert last_week["missing"] == []
        (missing,) = (await console.get("workflows", now_ms - 100 * DAY_S * 1000))["missing"]
        boundary = time_text(now_ms - round(ARCHIVE_RETENTION_S * 1000))[:10]
        assert f"executions that closed before {boundary}" in missing
