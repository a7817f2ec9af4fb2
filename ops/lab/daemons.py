"""Starts, stops and kills long-running processes, in a namespace or outside.

A daemon dies with the process that started it, even if that process is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ops.lab.identity import LABORATORY_VARIABLE, LabFailed, LabIdentity
from ops.lab.namespaces import NamedNamespace

READY_DEADLINE_S: Final = 30.0
STOP_DEADLINE_S: Final = 10.0
POLL_S: Final = 0.02
LOG_CHARACTERS_MAX: Final = 1_000


class Daemon:
    """One program with its log; it can be started again after it was stopped."""

    def __init__(
        self,
        identity: LabIdentity,
        namespace: NamedNamespace | None,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.log_path = log
        self.command = tuple(command)
        self._identity = identity
        self._namespace = namespace
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the program. Raises LabFailed if it was not started."""
        if self._process is None:
            raise LabFailed(f"{self.command[0]} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program, without waiting until it is ready."""
        assert self._process is None, "start() was called twice without stop() or kill()"
        # setpriv and nsenter exec the program, so ``pid`` is the process id of the program. A new
        # session protects the program from Ctrl-C: the laboratory stops its daemons in order.
        namespace = self._namespace
        command = list(self.command) if namespace is None else namespace.inside(self.command)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | self._environment | {LABORATORY_VARIABLE: str(self._identity)},
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready`` returns True. Raises LabFailed with the end of the program's log."""
        program = Path(self.command[0]).name
        deadline = time.monotonic() + READY_DEADLINE_S
        while not ready():
            if not self.is_running:
                raise LabFailed(f"{program} exited: {self.log_tail()}")
            if time.monotonic() > deadline:
                text = f"{program} is not ready after {READY_DEADLINE_S:g} s: {self.log_tail()}"
                raise LabFailed(text)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Send SIGTERM and wait; send SIGKILL after ``STOP_DEADLINE_S``."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait, to simulate a crash."""
        self._end(signal.SIGKILL)

    def log_tail(self) -> str:
        """The end of the program's log."""
        try:
            return self.log_path.read_text(errors="replace")[-LOG_CHARACTERS_MAX:].strip()
        except OSError:
            return "it has no log"

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
