"""Starts the processes that run simulated nodes, and sends them requests."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from bench.rig.daemon import PROJECT_ROOT

NODES_PER_PROCESS_MAX: Final = 500
PROCESSES_MIN: Final = 2
STOP_S_MAX: Final = 20.0


class Fleet:
    """The nodes of one cluster. ``with`` starts the processes, and ``open`` starts the nodes."""

    def __init__(self, endpoint: str, cluster: str, nodes: int) -> None:
        count = max(PROCESSES_MIN, math.ceil(nodes / NODES_PER_PROCESS_MAX))
        common = {"method": "open", "endpoint": endpoint, "cluster": cluster}
        self._open_requests = [
            common | {"nodes": list(range(first, nodes, count))} for first in range(count)
        ]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in self._open_requests:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.simulation.process"],
                    cwd=PROJECT_ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate(timeout=STOP_S_MAX)

    @property
    def processes(self) -> int:
        """The number of processes."""
        return len(self._processes)

    def open(self) -> None:
        """Start the nodes; return when all nodes are ready."""
        self._send(self._open_requests)

    def request(self, method: str, **parameters: Any) -> list[dict[str, Any]]:
        """Send a request to all processes; return their responses."""
        return self._send([{"method": method, **parameters}] * len(self._processes))

    def _send(self, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        for process, request in zip(self._processes, requests, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        return [_read_response(process) for process in self._processes]


def _read_response(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ChildProcessError(
            f"process {process.pid} of the simulation ended before it responded (see the error"
            " above)"
        )
    response: dict[str, Any] = json.loads(line)
    return response
