"""Runs controllers as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.etcd import free_ports

WAIT_S_MAX = 60.0
LEASE_TTL_S = 2


class ControllerProcess:
    """One replica of the controller, with its own ports."""

    def __init__(
        self,
        name: str,
        endpoint: str,
        cluster: str,
        directory: Path,
        *options: str,
        lease_ttl_s: int = LEASE_TTL_S,
        module: str = "ops.controller.main",
    ) -> None:
        self.name = name
        self.health_port, self.metrics_port = free_ports(2)
        self._log = (directory / f"{name}.log").open("wb")
        environment = {
            "ORBWEAVER_ETCD_ENDPOINTS": endpoint,
            "ORBWEAVER_CLUSTER": cluster,
            "ORBWEAVER_ARCHIVE_DIR": str(directory / "archive"),
            "ORBWEAVER_LEASE_TTL_SECONDS": str(lease_ttl_s),
            "SPIDERPOOL_POD_NAME": name,
            "SPIDERPOOL_HEALTH_PORT": str(self.health_port),
            "SPIDERPOOL_METRIC_HTTP_PORT": str(self.metrics_port),
            "SPIDERPOOL_ENABLED_METRIC": "true",
            "SPIDERPOOL_ENABLED_DEBUG_METRIC": "true",
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                module,
                "--config-path",
                "/nonexistent",
                *options,
            ],
            env=os.environ | environment,
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_S_MAX)

    def wait(self) -> int:
        """Wait for the exit; return the exit code."""
        return self._process.wait(WAIT_S_MAX)

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Return status and body; the status is 0 if the connection fails."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def sample(self, name: str) -> float | None:
        """The sum of all samples of a metric; None without samples."""
        _, body = self.get(self.metrics_port, "/metrics")
        values = [
            float(line.rpartition(" ")[2])
            for line in body.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        ]
        return sum(values) if values else None

    async def until_metric(self, name: str, value: float) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while await asyncio.to_thread(self.sample, name) != value:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: metric {name} did not become {value}")
            await asyncio.sleep(0.05)

    async def until_ready(self) -> str:
        """Return the body of the readiness check."""
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            status, body = await asyncio.to_thread(self.get, self.health_port, "/readyz")
            if status == 200:
                return body
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready: {body}")
            await asyncio.sleep(0.05)
