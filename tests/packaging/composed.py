"""Runs services of docker-compose.yml as processes.

Each service has a network namespace on one bridge, and an /etc/hosts with the names of the other
services. Volumes are directories of the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.packaging.project import PROJECT_ROOT
from tests.support.hosts import Hosts

DEADLINE_S: Final = 60.0
PROGRAMS: Final = {"etcd-1": "etcd", "etcd-2": "etcd", "etcd-3": "etcd", "prometheus": "prometheus"}
"""Service -> the program that its third-party image starts."""

PRINT_URL: Final = (
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
)


class Composition:
    """Services that a test starts and kills."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._services: Mapping[str, Any] = yaml.safe_load(
            (PROJECT_ROOT / "docker-compose.yml").read_text("utf-8")
        )["services"]
        self._directory = directory
        self._hosts = Hosts(directory, {name: (name,) for name in names})
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def network(self) -> Iterator[None]:
        """Create a network namespace for each service; kill the services at the end."""
        with self._hosts.network():
            try:
                yield
            finally:
                for name in list(self._running):
                    self.kill(name)

    def start(self, name: str) -> None:
        service = self._services[name]
        command = [*([PROGRAMS[name]] if name in PROGRAMS else []), *service.get("command", ())]
        local_command = [self._with_local_paths(name, word) for word in command]
        if name == "prometheus":
            local_command.append(f"--storage.tsdb.path={self._directory / 'series'}")
        command_on_host = self._hosts.inside(name, local_command)
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command_on_host, env=self._environment(name), stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)

    def wait_healthy(self, name: str) -> None:
        _, *check = self._services[name]["healthcheck"]["test"]
        deadline = time.monotonic() + DEADLINE_S
        while self.attempt(name, *check).returncode:
            log = (self._directory / f"{name}.log").read_text("utf-8", "replace")
            assert time.monotonic() < deadline, f"{name} is not healthy: {log[-2000:]}"
            time.sleep(0.1)

    def attempt(
        self, name: str, *command: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as ``docker compose exec`` does."""
        local_command = [sys.executable if word == "python" else word for word in command]
        return subprocess.run(
            self._hosts.inside(name, local_command),
            env=self._environment(name),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def get_json(self, name: str, url: str) -> Any:
        """Request a URL in a service; None if the request fails."""
        completed = self.attempt(name, "python", "-c", PRINT_URL, url)
        return json.loads(completed.stdout) if completed.returncode == 0 else None

    def _environment(self, name: str) -> dict[str, str]:
        variables = self._services[name].get("environment", {})
        local_variables = {
            key: self._with_local_paths(name, str(value)) for key, value in variables.items()
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        hostname = {"SPIDERPOOL_NODE_NAME": self._services[name].get("hostname", name)}
        sockets = {
            "ORBWEAVER_SOCKET_PATH": self._with_local_paths(
                name, "/var/run/spidernet/spiderpool.sock"
            )
        }
        return {
            "PATH": path,
            "HOME": str(self._directory),
            **hostname,
            **sockets,
            **local_variables,
        }

    def _with_local_paths(self, name: str, text: str) -> str:
        """Replace paths of volumes with paths of this machine."""
        for volume in self._services[name].get("volumes", ()):
            if not isinstance(volume, str):
                continue
            source, target, *_ = volume.split(":")
            if source.startswith("./ops/"):
                text = text.replace(target, str(PROJECT_ROOT / source))
            elif target in text:
                volume_directory = self._directory / name / target.strip("/")
                volume_directory.mkdir(parents=True, exist_ok=True)
                text = text.replace(target, str(volume_directory))
        return text
