"""Runs an executable many times, as container runtimes do.

Parameters: ``command``, ``environments`` (one for each run), ``stdin`` (a file), ``directory`` (for
the output), ``callers`` (concurrent processes). Report: ``seconds``, ``latencies_ms``, ``cpu_ms``
(the mean CPU time of a run), ``failures`` (the output of each failed run).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def run(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the executable with each environment; return the report."""
    remaining = enumerate(parameters["environments"])
    directory = Path(parameters["directory"])
    running: dict[int, tuple[int, float]] = {}
    latencies_ms: list[float] = []
    failed_runs: list[int] = []

    def begin_next() -> None:
        upcoming = next(remaining, None)
        if upcoming is not None:
            number, environment = upcoming
            began = time.perf_counter()
            running[_spawn(parameters, environment, directory / str(number))] = number, began

    started = time.perf_counter()
    for _ in range(parameters["callers"]):
        begin_next()
    while running:
        pid, status = os.wait()
        number, began = running.pop(pid)
        latencies_ms.append((time.perf_counter() - began) * 1e3)
        if status:
            failed_runs.append(number)
        begin_next()
    seconds = time.perf_counter() - started
    failures = [(directory / str(number)).read_text()[:500] for number in failed_runs]
    report = {"seconds": seconds, "latencies_ms": latencies_ms, "failures": failures}
    return report | {"cpu_ms": _children_cpu_s() * 1e3 / max(len(latencies_ms), 1)}


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _spawn(parameters: dict[str, Any], environment: dict[str, str], output: Path) -> int:
    command = parameters["command"]
    write_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, parameters["stdin"], os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), write_flags, 0o600),
    ]
    return os.posix_spawn(command[0], command, environment, file_actions=actions)


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
