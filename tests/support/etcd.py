"""Clusters of real etcd members on loopback, for tests and benchmarks."""

from __future__ import annotations

import functools
import itertools
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 10.0
_POLL_S = 0.02
_PROBE_S = 1.0
_LOG_CHARACTERS = 2_000
_PORTS = range(20_000, 32_000)
"""Ports below the range of ephemeral ports."""

_PORTS_PER_PROCESS = 500
_TIMES_OF_A_SINGLE_MEMBER = ("--heartbeat-interval=50", "--election-timeout=250")
"""Milliseconds. A member without peers needs no time for their votes before it serves."""


class EtcdFailed(Exception):
    """A member did not start, or exited unexpectedly."""


class Certificates(NamedTuple):
    """PEM files for TLS with client certificates."""

    ca: Path
    server_cert: Path
    server_key: Path


class EtcdMember:
    """A data directory, and an etcd process that can be restarted."""

    def __init__(self, name: str, directory: Path, *, secure: bool) -> None:
        self.name = name
        self.directory = directory / name
        self._scheme = "https" if secure else "http"
        self._client_port, self._peer_port, self._metrics_port = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self._client_port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self._peer_port}"

    @property
    def pid(self) -> int:
        return self._running_process().pid

    def launch(self, flags: Sequence[str]) -> None:
        """Start the process without waiting for the member."""
        program = shutil.which("etcd")
        if program is None:
            raise EtcdFailed("there is no etcd on PATH: install Debian's etcd-server")
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "name": self.name,
            "data-dir": str(self.directory / "data"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "listen-metrics-urls": f"http://127.0.0.1:{self._metrics_port}",
            "log-level": "warn",
        }
        command = [program, *(f"--{flag}={value}" for flag, value in settings.items()), *flags]
        with (self.directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_healthy(self) -> None:
        """Raises EtcdFailed with the end of the log."""
        deadline = time.monotonic() + START_DEADLINE_S
        while not self.is_healthy():
            if self._running_process().poll() is not None or time.monotonic() > deadline:
                raise EtcdFailed(f"{self.name} is not healthy: {self.log()[-_LOG_CHARACTERS:]}")
            time.sleep(_POLL_S)

    def is_healthy(self) -> bool:
        """Whether the member serves linearizable reads."""
        return '"health":"true"' in self._probe("health")

    def is_leader(self) -> bool:
        return "\netcd_server_is_leader 1\n" in self._probe("metrics")

    def log(self) -> str:
        return (self.directory / "etcd.log").read_text(errors="replace")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Send SIGSTOP: connections stay open, and requests get no response."""
        self._running_process().send_signal(signal.SIGSTOP)
        while not self._is_stopped():
            time.sleep(_POLL_S)

    def resume(self) -> None:
        self._running_process().send_signal(signal.SIGCONT)

    def metric(self, name: str) -> float:
        """The value of a series, given as ``name{labels}``; 0 if the series is missing."""
        lines = self._probe("metrics").splitlines()
        values = (line.rpartition(" ") for line in lines if line.startswith(name))
        return next((float(value) for series, _, value in values if series == name), 0.0)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # A paused process handles SIGTERM only after SIGCONT.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _is_stopped(self) -> bool:
        # The kernel stops each thread separately.
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EtcdFailed(f"{self.name} was not started")
        return self._process

    def _probe(self, path: str) -> str:
        address = f"http://127.0.0.1:{self._metrics_port}/{path}"
        try:
            with urllib.request.urlopen(address, timeout=_PROBE_S) as answer:
                return str(answer.read(), "utf-8")
        except (OSError, urllib.error.URLError):
            return ""


class EtcdCluster:
    """A cluster of members; the context manager starts and kills them.

    ``durable``: whether data are synced to disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 1,
        flags: Sequence[str] = (),
        certificates: Certificates | None = None,
        durable: bool = False,
    ) -> None:
        secure = certificates is not None
        self.members = [
            EtcdMember(f"etcd-{number}", directory, secure=secure) for number in range(size)
        ]
        peers = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        self._flags = [f"--initial-cluster={peers}", *flags]
        if size == 1:
            self._flags += _TIMES_OF_A_SINGLE_MEMBER
        if not durable:
            self._flags.append("--unsafe-no-fsync")
        if certificates is not None:
            self._flags += [
                f"--trusted-ca-file={certificates.ca}",
                f"--cert-file={certificates.server_cert}",
                f"--key-file={certificates.server_key}",
                "--client-cert-auth",
            ]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """Return when all members are healthy."""
        for member in self.members:
            member.launch(self._flags)
        for member in self.members:
            member.wait_healthy()

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def restart(self, member: EtcdMember) -> None:
        """Start a stopped member; return when it is healthy."""
        member.launch(self._flags)
        member.wait_healthy()

    def leader(self) -> EtcdMember:
        """Wait for a leader. Raises EtcdFailed."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.is_leader():
                    return member
            time.sleep(_POLL_S)
        raise EtcdFailed("no leader elected")

    def member_at(self, endpoint: str) -> EtcdMember:
        return next(member for member in self.members if member.endpoint == endpoint)

    def etcdctl(self, *arguments: str) -> str:
        """Return the standard output. Raises EtcdFailed."""
        urls = ",".join(member.url for member in self.members)
        command = ["etcdctl", f"--endpoints={urls}", *arguments]
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise EtcdFailed(
                f"etcdctl {' '.join(arguments)}: {completed.stderr or completed.stdout}"
            )
        return completed.stdout


def free_ports(count: int) -> tuple[int, ...]:
    """Unused ports of 127.0.0.1; concurrent test runs get different ports."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(_reserved_ports())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
    return tuple(ports)


@functools.cache
def _reserved_ports() -> Iterator[int]:
    """Cycle through ports that this process reserves by binding an abstract socket.

    Without a reservation, another test run could take a free port first.
    """
    for start in range(_PORTS.start, _PORTS.stop, _PORTS_PER_PROCESS):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0orbweaver-test-ports-{start}")
        except OSError:
            name.close()
            continue
        _reserved_names.append(name)
        return itertools.cycle(range(start, start + _PORTS_PER_PROCESS))
    return itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))


_reserved_names: list[socket.socket] = []
