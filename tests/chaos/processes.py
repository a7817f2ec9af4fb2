"""The agents and controllers of a run. Each process has its own etcd links and clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.chaos.proxy import Link
from tests.support.etcd import free_ports

ROOT: Final = Path(__file__).resolve().parents[2]
FAKETIME: Final = "faketime/libfaketimeMT.so.1"
LIBRARIES: Final = (Path("/usr/lib"), Path("/usr/local/lib"), Path("/usr/lib64"))
COOL_DOWN_S: Final = 2
LEASE_TTL_S: Final = 3
SOCKET_NAME: Final = "s"
_SETTINGS_PREFIXES: Final = ("ORBWEAVER_", "SPIDERPOOL_", "KUBERNETES_", "KUBECONFIG")


def find_faketime() -> str:
    """The path of libfaketime, which changes a process's clock; "" if not installed."""
    for directory in LIBRARIES:
        for library in (directory / FAKETIME, *directory.glob(f"*/{FAKETIME}")):
            if library.exists():
                return str(library)
    return ""


class Daemon:
    """An agent or controller. ``should_run`` is true from a launch until ``kill``."""

    def __init__(
        self,
        name: str,
        module: str,
        directory: Path,
        links: Sequence[Link],
        variables: Mapping[str, str],
    ) -> None:
        self.name = name
        self.links = tuple(links)
        self.directory = directory
        self.health_port, metrics_port = free_ports(2)
        self.should_run = False
        self.paused_until = 0.0
        directory.mkdir(parents=True)
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = directory / "clock"
        self.set_clock_error(0.0)
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(_SETTINGS_PREFIXES)
        }
        self._environment = {
            **inherited,
            "ORBWEAVER_ETCD_ENDPOINTS": ",".join(link.endpoint for link in links),
            "SPIDERPOOL_HEALTH_PORT": str(self.health_port),
            "SPIDERPOOL_METRIC_HTTP_PORT": str(metrics_port),
            **variables,
        }
        library = find_faketime()
        if library:
            self._environment |= {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    @property
    def socket_path(self) -> Path:
        """Only an agent has this socket."""
        return self.directory / SOCKET_NAME

    def launch(self) -> None:
        """Start the process, which must not be running."""
        self.should_run = True
        self.paused_until = 0.0
        command = [sys.executable, "-m", self._module, "--config-path", "/nonexistent"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        process, self._process = self._process, None
        self.should_run = False
        if process is not None:
            process.kill()
            process.wait()

    def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, time.monotonic() + seconds)
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue, unless another ``pause`` lasts longer."""
        if time.monotonic() >= self.paused_until:
            self._signal(signal.SIGCONT)

    def set_clock_error(self, seconds: float) -> None:
        new_file = self._clock.with_suffix(".new")
        new_file.write_text(f"{seconds:+.3f}\n")
        new_file.replace(self._clock)

    def poll_exit_code(self) -> int | None:
        """Return the exit code once, if the process exited by itself; otherwise None."""
        if not self.should_run or self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._process = None
        return code

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def agent(number: int, directory: Path, links: Sequence[Link]) -> Daemon:
    name = f"node-{number}"
    agent_directory = directory / name
    variables = {
        "SPIDERPOOL_NODE_NAME": name,
        "ORBWEAVER_SOCKET_PATH": str(agent_directory / SOCKET_NAME),
        "ORBWEAVER_PLUGIN_LOG_PATH": str(agent_directory / "plugin.log"),
        "ORBWEAVER_COOL_DOWN_SECONDS": str(COOL_DOWN_S),
        # An announcement needs a network namespace, and the Pods have none.
        "ORBWEAVER_ANNOUNCE_ADDRESSES": "false",
    }
    return Daemon(name, "nodeagent.main", agent_directory, links, variables)


def controller(number: int, directory: Path, links: Sequence[Link]) -> Daemon:
    name = f"controller-{number}"
    variables = {
        "SPIDERPOOL_POD_NAME": name,
        "ORBWEAVER_ARCHIVE_DIR": str(directory / "archive"),
        "ORBWEAVER_LEASE_TTL_SECONDS": str(LEASE_TTL_S),
    }
    return Daemon(name, "ops.controller.main", directory / name, links, variables)
