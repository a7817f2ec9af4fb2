"""Runs the processes with simulated nodes. All have ended when the context ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from bench.rig.daemon import ROOT

NODES_PER_PROCESS_MAX: Final = 500
PROCESSES_MIN: Final = 2
STOP_S_MAX: Final = 20.0


class Fleet:
    """Nodes of one cluster; entering it starts the processes, and ``open`` starts the nodes."""

    def __init__(self, endpoint: str, cluster: str, nodes: int) -> None:
        count = max(PROCESSES_MIN, -(-nodes // NODES_PER_PROCESS_MAX))
        shares = [list(range(first, nodes, count)) for first in range(count)]
        common = {"do": "open", "endpoint": endpoint, "cluster": cluster}
        self._opening = [common | {"nodes": share} for share in shares]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in self._opening:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.simulation.process"],
                    cwd=ROOT,
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
        """Start the nodes; return when all are ready."""
        self._exchange(self._opening)

    def ask(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """Send an order to all processes; return their answers."""
        return self._exchange([order] * len(self._processes))

    def _exchange(self, orders: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        for process, order in zip(self._processes, orders, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return [_answer(process) for process in self._processes]


def _answer(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ChildProcessError(
            f"process {process.pid} of the simulation ended before its answer (see its error above)"
        )
    answer: dict[str, Any] = json.loads(line)
    return answer
