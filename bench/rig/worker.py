"""Runs the workflow engine: a worker process, or a controller's jobs in this process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from bench.rig import processes
from bench.rig.daemon import PROJECT_ROOT
from workflows.jobs.job_host import JobHost

STOP_S_MAX = 15.0


class WorkerProcess:
    """A worker process. ``with`` starts it, and waits until it is ready."""

    def __init__(self, endpoint: str, name: str) -> None:
        self._parameters = {"endpoint": endpoint, "name": name}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.callers.worker"],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._parameters).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"ready\n":
            self.kill()
            raise ChildProcessError(
                f"worker {self._parameters['name']} exited before it was ready"
                " (see the error above)"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill the process, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        assert self._process is not None
        return processes.cpu_s(self._process.pid)


@asynccontextmanager
async def running_jobs(host: JobHost) -> AsyncIterator[JobHost]:
    """Run the jobs of a leading controller in this process."""
    tasks = [asyncio.ensure_future(host.run()), asyncio.ensure_future(host.lead())]
    try:
        yield host
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
