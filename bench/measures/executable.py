"""What a call of the installed executable costs, against an interpreter that does nothing.

``python3 -I -S -c pass``, ``CNI_COMMAND=VERSION`` and a whole ADD through a real agent, in turns,
with the same interpreter; each is a process from its start to its end.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.figures import Figure
from bench.measures.allocation import define_wide_pool
from bench.measures.calls import RECORDS_MAX, CallFailed
from bench.rig.frames import NEW_PODS, environment, netconf
from bench.rig.lab import Lab
from ops import installer


class Executable:
    """The installed executable, as a runtime runs it."""

    def __init__(self, lab: Lab, socket_path: Path) -> None:
        room = lab.room("cni")
        report = installer.install(room / "bin", room / "net.d")
        assert report.interpreter is not None
        self.bare_command = [report.interpreter.path, "-I", "-S", "-c", "pass"]
        self.command = [str(room / "bin" / "spiderpool")]
        self.netconf = room / "netconf"
        self.netconf.write_bytes(netconf(socket_path=str(socket_path)))
        self._output = room / "output"
        self._next = NEW_PODS

    def bare(self) -> float:
        """An interpreter that does nothing."""
        return self._run(self.bare_command, {})

    def version(self) -> float:
        """VERSION, which needs no agent."""
        return self._run(self.command, {"CNI_COMMAND": "VERSION"})

    def add(self) -> float:
        """ADD for a new Pod."""
        self._next += 1
        return self._run(self.command, environment("ADD", self._next))

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> float:
        """Milliseconds of one process. Raises CallFailed."""
        with self.netconf.open("rb") as stdin, self._output.open("wb") as stdout:
            began = time.perf_counter()
            process = subprocess.Popen(command, env=variables, stdin=stdin, stdout=stdout)
            # Without a timeout: with one, Python sleeps for ever longer times between two looks.
            status = process.wait()
            took_ms = (time.perf_counter() - began) * 1e3
        if status:
            raise CallFailed(f"{command[-1]}: {status}: {self._output.read_text()[:500]}")
        return took_ms


def measure(lab: Lab) -> list[Figure]:
    """exec_version_ratio, exec_add_over_bare_ms."""
    with lab.etcd() as etcd:
        lab.fill(etcd, define_wide_pool)
        with lab.agent(etcd, variables=RECORDS_MAX) as agent:
            executable = Executable(lab, agent.socket_path)
            kinds = (executable.bare, executable.version, executable.add)
            _turns(kinds)
            turns = [_turns(kinds) for _ in lab.rounds(lab.scale.calls)]
    bare, version, add = (median(kind) for kind in zip(*turns, strict=True))
    python = f"CPython {platform.python_version()}, {len(turns)} calls of each kind"
    return [
        Figure(
            "exec_version_ratio",
            version / bare,
            "x a bare interpreter's time",
            1.0,
            f"{python}: {version:.1f} ms against {bare:.1f} ms",
            tuple(one[1] / one[0] for one in turns),
        ),
        Figure(
            "exec_add_over_bare_ms",
            add - bare,
            "ms more than a bare start",
            bare,
            f"{python}: an ADD takes {add:.1f} ms; reference: the bare interpreter",
            tuple(one[2] - one[0] for one in turns),
        ),
    ]


def _turns(kinds: Sequence[Callable[[], float]]) -> list[float]:
    """One call of each kind, one after the other."""
    return [kind() for kind in kinds]
