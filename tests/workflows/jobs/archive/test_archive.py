"""The live log is sealed at a limit, old archive files are pruned, and a crash loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.cursor import read_cursor
from core.archive.pruner import Retention
from core.archive.replay import open_log
from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.audit.verify import verify
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, addresses, pod, pool
from tests.workflows.faults.killing import KillingStore, KillMoment
from tests.workflows.jobs.job_host_harness import JobHostHarness
from workflows.api.definitions import Registry
from workflows.engine.client.schedules import Schedules
from workflows.jobs.archive import activities as activities_module
from workflows.jobs.archive import archive
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.jobs.archive.archive import PAUSE_S_MAX, WORKFLOW_ID, ArchiveLog
from workflows.jobs.archive.prune import PRUNE_S, PRUNE_SCHEDULE, SCHEDULE_ID, PruneArchive
from workflows.jobs.job_host import JobHost, JobSources
from workflows.testing.environment import WorkflowEnvironment
from workflows.testing.handle import TimeSkippingHandle

WRITES_UNTIL_SEALED = 16
"""About as many writes as a controller needs to seal the log."""


@pytest.fixture(autouse=True)
def seal_at_three_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ADD, DEL and applied pool writes one segment."""
    monkeypatch.setattr(activities_module, "needs_sealing", lambda live: live >= 3)


class ArchiveJobHarness:
    """A node, an archive, and the execution of ``ArchiveLog`` on a clock that skips waits."""

    def __init__(
        self, node: NodeHarness, directory: Path, retention: Retention = Retention()
    ) -> None:
        self.node = node
        self.files = LocalFiles(directory)
        self.activities = ArchiveActivities(
            node.store, node.keys, self.files, retention, now_s=self._now_s
        )
        self.environment = WorkflowEnvironment(
            Registry([ArchiveLog, PruneArchive], list(self.activities.all)), replays=True
        )

    async def start(self) -> TimeSkippingHandle:
        await self.environment.open()
        handle = await self.environment.start(ArchiveLog, workflow_id=WORKFLOW_ID)
        await self.environment.settle()
        return handle

    async def close_and_verify(self) -> None:
        await self.environment.close()
        assert (await verify(self.node.store, self.node.keys, self.files)).is_clean

    def _now_s(self) -> float:
        return self.environment.now_ms / 1000


async def test_a_log_at_the_limit_is_sealed_and_histories_stay_readable(tmp_path: Path) -> None:
    async with NodeHarness(MemoryStore()) as node:
        harness = ArchiveJobHarness(node, tmp_path)
        await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
        handle = await harness.start()
        assert harness.activities.sealed_segments == 0
        added = await node.add(pod("web-0"))
        await node.delete(pod("web-0"))
        await harness.environment.advance(PAUSE_S_MAX)
        (address,) = addresses(added)
        address_history = await read_history(
            await open_log(node.store, node.keys, harness.files), parse_subject(address)
        )
        status = await handle.query("status")
        await harness.close_and_verify()

    assert (harness.activities.sealed_segments, harness.activities.live_segments) == (3, 0)
    assert [entry.pod for entry in address_history.entries] == ["web-0"]
    assert isinstance(status, dict)
    assert (status["seals"], status["segments"], status["live"]) == (1, 3, 0)


async def test_the_status_shows_a_failed_archive_write_until_a_retry_succeeds(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "archive"
    blocked.write_text("a file where the directory should be")
    async with NodeHarness(MemoryStore()) as node:
        harness = ArchiveJobHarness(node, blocked)
        await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
        await node.add(pod("web-0"))
        await node.add(pod("web-1"))
        handle = await harness.start()
        await harness.environment.advance(1_000)
        failed = await handle.query("status")
        blocked.unlink()
        await harness.environment.advance(1_000)
        recovered = await handle.query("status")
        await harness.close_and_verify()

    assert isinstance(failed, dict)
    assert isinstance(recovered, dict)
    assert str(blocked) in str(failed["fault"])
    assert (recovered["fault"], recovered["segments"]) == ("", 3)
    assert harness.activities.failures > 1


async def test_the_status_names_a_corrupt_file_and_a_repair_resumes_archiving(
    tmp_path: Path,
) -> None:
    async with NodeHarness(MemoryStore()) as node:
        harness = ArchiveJobHarness(node, tmp_path)
        await node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
        handle = await harness.start()
        (segments,) = tmp_path.glob("*.segments")
        content = segments.read_bytes()
        segments.write_bytes(content[:-50] + b"x" * 50)
        await node.apply(*(pool(f"q{n}", f"10.6.{n}.2") for n in range(3)))
        await harness.environment.advance(PAUSE_S_MAX)
        failed = await handle.query("status")
        segments.write_bytes(content)
        await harness.environment.advance(PAUSE_S_MAX)
        await harness.close_and_verify()

    assert isinstance(failed, dict)
    assert segments.name.partition(".")[0] in str(failed["fault"])
    assert harness.activities.sealed_segments == 6


async def test_archive_files_older_than_the_retention_are_deleted_every_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PAUSE_S_MAX", PRUNE_S / 2)
    async with NodeHarness(MemoryStore()) as node:
        harness = ArchiveJobHarness(node, tmp_path, Retention(age_s=2 * PRUNE_S, bytes_max=0))
        await harness.start()
        schedule = await Schedules(harness.environment.client).ensure(SCHEDULE_ID, PRUNE_SCHEDULE)
        for hour in range(3):
            await node.apply(*(pool(f"p{hour}{n}", f"10.6.{hour}.{n}") for n in range(3)))
            await harness.environment.advance(PRUNE_S)
        cursor = (await read_cursor(node.store, node.keys)).cursor
        progress = (await schedule.describe()).progress
        await harness.close_and_verify()

    # Each hour has made one file. Only the first file is older than two hours.
    assert (cursor.files, cursor.pruned.files) == (3, 1)
    assert (progress.actions, progress.fault) == (3, "")


async def test_continue_as_new_keeps_the_counts_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 40)
    async with NodeHarness(MemoryStore()) as node:
        harness = ArchiveJobHarness(node, tmp_path)
        await node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
        handle = await harness.start()
        await harness.environment.advance(1_200)
        status = await handle.query("status")
        runs = await harness.environment.runs(WORKFLOW_ID)
        await harness.environment.close()

    assert len(runs) > 1
    assert isinstance(status, dict)
    assert status["seals"] == 1
    assert status["looks"] >= 20  # "looks" counts the checks of the live log


def _make_host_with(files: LocalFiles) -> Callable[..., JobHost]:
    def make(store: KeyValueStore, *args: object, **options: object) -> JobHost:
        archive = ArchiveActivities(store, args[0], files)  # type: ignore[arg-type]  # the keys
        sources = JobSources(archive=archive)
        return partial(JobHost, store, sources=sources)(*args, **options)  # type: ignore[arg-type]

    return make


async def _seal_is_done(hosts: JobHostHarness) -> bool:
    cursor = (await read_cursor(hosts.store, hosts.node.keys)).cursor
    return cursor.files > 0


async def test_two_controllers_seal_the_log_once(store: KeyValueStore, tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "archive")
    async with JobHostHarness(store, _make_host_with(files)) as hosts:
        await hosts.node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
        await hosts.start_controller("one")
        await hosts.start_controller("two")
        await hosts.until_status(WORKFLOW_ID, seals=1)
        report = await verify(store, hosts.node.keys, files)

    assert report.is_clean
    assert report.files == 1


async def test_a_controller_without_an_archive_deletes_the_prune_schedule() -> None:
    async with JobHostHarness(MemoryStore()) as hosts:
        schedules = Schedules(hosts.client)
        await schedules.create(SCHEDULE_ID, PRUNE_SCHEDULE)
        await hosts.start_controller("one")

        key = hosts.client.keys.open(f"schedule/{SCHEDULE_ID}")

        async def is_deleted() -> bool:
            return not (await hosts.store.read([Get(key)])).ranges[0].kvs

        await hosts.until(is_deleted)
        assert await schedules.list() == []


@pytest.mark.parametrize("moment", KillMoment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("at", range(1, WRITES_UNTIL_SEALED + 1))
async def test_the_next_controller_seals_the_log_after_a_kill_at_any_write(
    at: int, moment: KillMoment, tmp_path: Path
) -> None:
    files = LocalFiles(tmp_path)
    async with JobHostHarness(MemoryStore(), _make_host_with(files)) as hosts:
        await hosts.node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
        killing = KillingStore(hosts.store, at, moment)
        await hosts.start_controller("killed", killing)
        await hosts.remove_when_dead(
            "killed", killing, lambda: hosts.has_status(WORKFLOW_ID, seals=1)
        )
        await hosts.start_controller("next")
        await hosts.until(lambda: _seal_is_done(hosts))
        report = await verify(hosts.store, hosts.node.keys, files)

    assert report.is_clean
    assert report.events == 3
