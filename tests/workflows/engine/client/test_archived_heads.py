"""Several threads read the heads of archived executions concurrently."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workflows.engine.client import visibility_at_instant
from workflows.engine.client.visibility_at_instant import ArchivedHeads
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.records import RunHead
from workflows.model.policies import ExecutionStatus

THREADS = 8
READS = 10_000
RUNS = ("1" * 32, "2" * 32)


@pytest.fixture
def frequent_thread_switches() -> Iterator[None]:
    """Python switches between threads every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_thread_switches")
def test_threads_read_heads_while_other_threads_evict_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility_at_instant, "ARCHIVED_CACHED_MAX", 1)
    files = ExecutionFiles(tmp_path)
    ended_head = RunHead("one", "", "", ExecutionStatus.COMPLETED)
    for run_id in RUNS:
        files.write(ended_head._replace(run_id=run_id), [])
    heads = ArchivedHeads(files)

    def read(thread: int) -> None:
        for number in range(READS):
            run_id = RUNS[(number // 7 + thread) % 2]
            head = heads.head(run_id)
            assert head is not None
            assert head.run_id == run_id

    with ThreadPoolExecutor(THREADS) as threads:
        for result in [threads.submit(read, thread) for thread in range(THREADS)]:
            result.result()
