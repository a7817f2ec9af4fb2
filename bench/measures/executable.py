"""The time of a call of the installed CNI executable.

Each round times four calls: the process ``python3 -I -S -c pass`` (the bare interpreter), VERSION
and ADD with the executable, and an ADD that this process sends to the agent's socket.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.callers.framed import SUCCESS_BYTE, ConcurrentCallers
from bench.figures import Figure
from bench.measures.allocation import define_wide_pool
from bench.measures.calls import UNLIMITED_ALLOCATIONS, CallFailed, Calls
from bench.rig.frames import FIRST_NEW_SERIAL, environment, frame, netconf
from bench.rig.lab import Lab
from ops import installer


class Executable:
    """The installed CNI executable, called as a container runtime calls it."""

    def __init__(self, lab: Lab, socket_path: Path) -> None:
        directory = lab.new_directory("cni")
        installer.install(directory / "bin", directory / "net.d")
        # Not the link in .venv, with which the interpreter would also read pyvenv.cfg.
        self.bare_command = [os.path.realpath(sys.executable), "-I", "-S", "-c", "pass"]
        self.command = [str(directory / "bin" / "spiderpool")]
        self.netconf = directory / "netconf"
        self.netconf.write_bytes(netconf(socket_path=str(socket_path)))
        self._framed_path = f"{socket_path}.fast"
        self._output = directory / "output"
        self._next = FIRST_NEW_SERIAL

    def bare_interpreter(self) -> float:
        """Run the bare interpreter; return milliseconds."""
        return self._run(self.bare_command, {})

    def version(self) -> float:
        """Run VERSION, which needs no agent; return milliseconds."""
        return self._run(self.command, {"CNI_COMMAND": "VERSION"})

    def add(self) -> float:
        """Run ADD; return milliseconds."""
        self._next += 1
        return self._run(self.command, environment("ADD", self._next))

    def add_at_socket(self) -> float:
        """Send an ADD to the agent's socket; return milliseconds."""
        self._next += 1
        conf = self.netconf.read_bytes()
        callers = ConcurrentCallers([self._framed_path], [frame("ADD", self._next, conf)])
        duration_ms = callers.run(1) * 1e3
        if callers.answers[0][:1] != SUCCESS_BYTE:
            raise CallFailed(f"ADD at the socket: {callers.answers[0][:500]!r}")
        return duration_ms

    def _run(self, command: list[str], variables: Mapping[str, str]) -> float:
        with self.netconf.open("rb") as stdin, self._output.open("wb") as stdout:
            streams = [
                (os.POSIX_SPAWN_DUP2, stdin.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1),
            ]
            began = time.perf_counter()
            # ``subprocess`` would add up to half of the executable's time.
            process = os.posix_spawn(command[0], command, variables, file_actions=streams)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            duration_ms = (time.perf_counter() - began) * 1e3
        if status:
            raise CallFailed(f"{command[-1]}: {status}: {self._output.read_text()[:500]}")
        return duration_ms


class CallsMs(NamedTuple):
    """The milliseconds of the four calls, in one round or as medians."""

    bare: float
    version: float
    add: float
    add_at_socket: float


class Runs:
    """Runs many processes; ``callers`` of them run concurrently."""

    def __init__(self, lab: Lab, executable: Executable, callers: int) -> None:
        self._lab = lab
        self._executable = executable
        self._callers = callers
        self._directory = lab.new_directory("runs")

    def bare_interpreters(self, count: int) -> Calls:
        """Run bare interpreters."""
        return self._run(self._executable.bare_command, [{}] * count)

    def adds(self, pods: Sequence[int]) -> Calls:
        """Run ADDs. Raises CallFailed."""
        return self._run(self._executable.command, [environment("ADD", pod) for pod in pods])

    def _run(self, command: list[str], environments: Sequence[dict[str, str]]) -> Calls:
        parameters: dict[str, Any] = {"command": command, "environments": environments}
        parameters |= {"stdin": str(self._executable.netconf), "directory": str(self._directory)}
        report = self._lab.call("executables", parameters | {"callers": self._callers})
        count = len(environments)
        if report["failures"]:
            raise CallFailed(
                f"{len(report['failures'])} of {count} processes failed: {report['failures'][0]}"
            )
        return Calls(count / report["seconds"], report["latencies_ms"], report["cpu_ms"])


def measure(lab: Lab) -> list[Figure]:
    """Measure exec_version_ratio and exec_add_over_socket_ratio."""
    with lab.etcd() as etcd:
        lab.fill(etcd, define_wide_pool)
        with lab.agent(etcd, variables=UNLIMITED_ALLOCATIONS) as agent:
            executable = Executable(lab, agent.socket_path)
            _call_each(executable)  # a warm-up, not measured
            rounds = [_call_each(executable) for _ in lab.rounds(lab.scale.calls)]
    medians = CallsMs(*(median(durations_ms) for durations_ms in zip(*rounds, strict=True)))
    python = f"CPython {platform.python_version()}, {len(rounds)} calls of each kind"
    return [
        Figure(
            "exec_version_ratio",
            medians.version / medians.bare,
            "x the time of a bare interpreter",
            reference=1.0,
            note=f"{python}: {medians.version:.2f} ms against {medians.bare:.1f} ms",
            samples=tuple(calls.version / calls.bare for calls in rounds),
        ),
        Figure(
            "exec_add_over_socket_ratio",
            medians.add / medians.add_at_socket,
            "x the same ADD at the socket",
            reference=1.0,
            note=f"{len(rounds)} calls, one caller: {medians.add:.2f} ms against"
            f" {medians.add_at_socket:.2f} ms",
            samples=tuple(calls.add / calls.add_at_socket for calls in rounds),
        ),
    ]


def _call_each(executable: Executable) -> CallsMs:
    return CallsMs(
        executable.bare_interpreter(),
        executable.version(),
        executable.add(),
        executable.add_at_socket(),
    )
