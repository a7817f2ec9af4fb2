"""Runs an agent or a controller as a process, connected to one etcd.

Only environment variables configure the daemon. Its context manager stops the daemon.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.rig import processes
from tests.support.etcd import free_ports

PROJECT_ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 60.0
IDLE_SHARE_MAX = 0.05
"""A daemon is idle if it uses at most this share of a core during ``IDLE_WINDOW_S``."""

IDLE_WINDOW_S = 0.5
IDLE_S_MAX = 120.0
STOP_S_MAX = 30.0
_POLL_S = 0.01
_PROBE_S = 1.0
_LOG_CHARACTERS = 2_000
_SETTINGS_PREFIXES = ("ORBWEAVER_", "SPIDERPOOL_")
"""A daemon does not inherit environment variables with these prefixes."""


class DaemonFailed(Exception):
    """The daemon did not become ready or idle, or was not started."""


class DaemonProcess:
    """One daemon. ``ready_s``: seconds from its start until it was ready."""

    def __init__(self, directory: Path, module: str, variables: Mapping[str, str]) -> None:
        self.directory = directory
        self.ready_s = 0.0
        self._module = module
        self._health_port, metrics_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_SETTINGS_PREFIXES)
        }
        self._environment = {
            **inherited,
            "SPIDERPOOL_HEALTH_PORT": str(self._health_port),
            "SPIDERPOOL_METRIC_HTTP_PORT": str(metrics_port),
            **variables,
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises DaemonFailed."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process and return immediately."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = str(self.directory / "conf.yml")  # does not exist: the defaults apply
        command = [sys.executable, "-m", self._module, "--config-path", config]
        self._started = time.perf_counter()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until the daemon is ready. Raises DaemonFailed."""
        assert self._process is not None
        while not self.is_ready():
            waited_s = time.perf_counter() - self._started
            status = self._process.poll()
            if status is not None or waited_s > READY_S_MAX:
                why = f"is not ready after {waited_s:.0f} s"
                if status is not None:
                    why = f"exited with {status} before it was ready"
                raise DaemonFailed(f"{self._module} {why}: {self.log()[-_LOG_CHARACTERS:]}")
            time.sleep(_POLL_S)
        self.ready_s = time.perf_counter() - self._started

    def wait_idle(self) -> None:
        """Wait until the daemon is idle. Raises DaemonFailed."""
        wait_all_idle([self])

    def is_ready(self) -> bool:
        """Whether the health port reports readiness."""
        request = b"GET /v1/runtime/readiness HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n"
        try:
            with socket.create_connection(("127.0.0.1", self._health_port), _PROBE_S) as probe:
                probe.sendall(request)
                return probe.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False

    def stop(self) -> None:
        """End the process, with SIGKILL after ``STOP_S_MAX``."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """The content of the daemon's log."""
        return (self.directory / "log").read_text(errors="replace")

    def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        return processes.cpu_s(self._pid())

    def rss_mb(self) -> float:
        """Resident memory of the process now."""
        return processes.rss_mb(self._pid())

    def _pid(self) -> int:
        if self._process is None:
            raise DaemonFailed(f"{self._module} was not started")
        return self._process.pid


def wait_all_idle(daemons: Sequence[DaemonProcess]) -> None:
    """Wait until all daemons are idle at the same time. Raises DaemonFailed."""
    began, before = time.monotonic(), [daemon.cpu_s() for daemon in daemons]
    while time.monotonic() - began < IDLE_S_MAX:
        time.sleep(IDLE_WINDOW_S)
        now = [daemon.cpu_s() for daemon in daemons]
        used = [after - then for after, then in zip(now, before, strict=True)]
        if max(used) <= IDLE_SHARE_MAX * IDLE_WINDOW_S:
            return
        before = now
    names = ", ".join(str(daemon.directory) for daemon in daemons)
    raise DaemonFailed(
        f"the daemons of {names} were not idle at the same time within {IDLE_S_MAX:g} s"
    )
