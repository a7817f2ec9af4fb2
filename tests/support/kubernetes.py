"""A real API server with a real etcd, which tests start, kill and start again.

No kubelet or controller runs, except in tests/nodes: Pods keep their written status, and objects of
deleted owners stay.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

import trustme
import yaml

from tests.support.etcd import EtcdCluster, free_ports
from tests.support.http_client import HttpClient, HttpResponse

KUBERNETES_PROGRAMS: Final = Path(
    os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin"
)
APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"

SERVICE_ADDRESS: Final = "10.96.0.1"
"""The ClusterIP of the Service ``kubernetes``."""

_START_DEADLINE_S: Final = 60.0
_STOP_DEADLINE_S: Final = 60.0
CALL_S: Final = 20.0
_POLL_S: Final = 0.05
_LOG_CHARACTERS: Final = 3_000
_ADMINISTRATOR: Final = "tester"
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

T = TypeVar("T")


class ApiServerFailed(Exception):
    """The API server did not start, or exited unexpectedly."""


class Answer(NamedTuple):
    """A response of the server. ``body``: an object or a ``Status``."""

    status: int
    body: dict[str, Any]
    warnings: Sequence[str] = ()

    @property
    def message(self) -> str:
        """The message of the ``Status``; "" for an object."""
        return str(self.body.get("message", ""))


def missing_programs(*names: str) -> list[str]:
    """Return the names of missing programs; without names, check kube-apiserver and kubectl."""
    required = names or ("kube-apiserver", "kubectl")
    return [name for name in required if not (KUBERNETES_PROGRAMS / name).is_file()]


class ServerLocation(Protocol):
    """Where an API server and its etcd run."""

    @property
    def address(self) -> str: ...

    @property
    def etcd_endpoints(self) -> tuple[str, ...]: ...

    def open(self) -> None:
        """Start etcd."""
        ...

    def close(self) -> None: ...

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs a program at this location."""
        ...

    def visit(self, work: Callable[[], T]) -> T:
        """Run a function at this location; return its result."""
        ...


class Loopback:
    """The loopback of this machine, with an etcd."""

    address = "127.0.0.1"

    def __init__(self, etcd: EtcdCluster) -> None:
        self._etcd = etcd

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        return self._etcd.endpoints

    def open(self) -> None:
        self._etcd.__enter__()

    def close(self) -> None:
        self._etcd.kill()

    def inside(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def visit(self, work: Callable[[], T]) -> T:
        return work()


class ApiServer:
    """An API server; the context manager starts and kills the server.

    ``flags``: added to the default flags; None removes a flag. ``users``: name -> group, in
    addition to an administrator.
    """

    def __init__(
        self,
        directory: Path,
        location: ServerLocation | None = None,
        *,
        flags: Mapping[str, object] = _EMPTY,
        users: Mapping[str, str] = _EMPTY,
    ) -> None:
        self.directory = directory
        self.location: ServerLocation = location or Loopback(EtcdCluster(directory))
        self._flags = flags
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.ca = directory / "ca.crt"
        self._write_files({_ADMINISTRATOR: "system:masters", **users})
        tls = ssl.create_default_context(cafile=self.ca)
        self._client = HttpClient(self.location.address, self.port, tls, CALL_S)

    def __enter__(self) -> Self:
        self.location.open()
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._client.close()
        self.location.close()

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        """Tests may store other keys in this etcd."""
        return self.location.etcd_endpoints

    @property
    def url(self) -> str:
        return f"https://{self.location.address}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.kubeconfig_of(_ADMINISTRATOR)

    def kubeconfig_of(self, user: str) -> Path:
        return self.directory / f"kubeconfig-{user}"

    def start(self) -> None:
        """Return when the server is ready. Raises ApiServerFailed with the log."""
        directory = self.directory
        flags: dict[str, object] = {
            "etcd-servers": ",".join(f"http://{endpoint}" for endpoint in self.etcd_endpoints),
            "bind-address": self.location.address,
            "secure-port": self.port,
            "tls-cert-file": directory / "server.crt",
            "tls-private-key-file": directory / "server.key",
            "cert-dir": directory / "certs",
            "token-auth-file": directory / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": self.url,
            "service-account-key-file": directory / "server.key",
            "service-account-signing-key-file": directory / "server.key",
            "service-cluster-ip-range": "10.96.0.0/16",
            "endpoint-reconciler-type": "none",
            "disable-admission-plugins": "ServiceAccount",
            "allow-privileged": "true",
            "watch-cache": "true",
            "profiling": "false",
            **self._flags,
        }
        options = (f"--{name}={value}" for name, value in flags.items() if value is not None)
        command = self.location.inside([str(KUBERNETES_PROGRAMS / "kube-apiserver"), *options])
        with (directory / "kube-apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_DEADLINE_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ApiServerFailed(
                    f"kube-apiserver is not ready: {self.log()[-_LOG_CHARACTERS:]}"
                )
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """Kill the server; the objects stay in etcd."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(_STOP_DEADLINE_S)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ApiServerFailed("kube-apiserver was not started")
        return self._process.pid

    def log(self) -> str:
        return (self.directory / "kube-apiserver.log").read_text(errors="replace")

    def request(
        self, method: str, path: str, body: object = None, *, content: str = "application/json"
    ) -> Answer:
        """Make one request as an administrator; an error status does not raise."""
        status, text, warnings = self.location.visit(
            lambda: self._send(method, path, body, content)
        )
        return Answer(status, _parse_body(text), warnings)

    def text(self, path: str) -> str:
        """Raises ApiServerFailed unless the status is 200."""
        status, text, _ = self.location.visit(lambda: self._send("GET", path))
        if status != HTTPStatus.OK:
            raise ApiServerFailed(f"{path}: {status}: {text!r}")
        return text.decode()

    def wait_served(self, path: str) -> dict[str, Any]:
        """Wait until a path is served; return the body."""
        deadline = time.monotonic() + _START_DEADLINE_S
        while (answer := self.request("GET", path)).status != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise ApiServerFailed(f"{path} is not served: {answer.message}")
            time.sleep(_POLL_S)
        return answer.body

    def wait_unserved(self, path: str) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        while self.request("GET", path).status != HTTPStatus.NOT_FOUND:
            if time.monotonic() > deadline:
                raise ApiServerFailed(f"{path} is still served")
            time.sleep(_POLL_S)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Return the output. Raises ApiServerFailed with the error output."""
        kubectl = [
            str(KUBERNETES_PROGRAMS / "kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            *arguments,
        ]
        command = self.location.inside(kubectl)
        environment = {"HOME": str(self.directory), "PATH": "/usr/bin:/bin"}
        completed = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env=environment
        )
        if completed.returncode:
            raise ApiServerFailed(
                f"kubectl {' '.join(arguments)}: {completed.stderr or completed.stdout}"
            )
        return completed.stdout

    def _send(
        self, method: str, path: str, body: object = None, content: str = "application/json"
    ) -> HttpResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {_token(_ADMINISTRATOR)}", "Content-Type": content}
        return self._client.send(method, path, data, headers)

    def _is_ready(self) -> bool:
        try:
            return self.location.visit(lambda: self._send("GET", "/readyz"))[0] == HTTPStatus.OK
        except OSError:
            return False

    def _write_files(self, users: Mapping[str, str]) -> None:
        directory = self.directory
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        server = authority.issue_cert(self.location.address, "localhost", SERVICE_ADDRESS)
        server.private_key_pem.write_to_path(str(directory / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(directory / "server.crt"))
        lines = (f'{_token(name)},{name},{name},"{group}"\n' for name, group in users.items())
        (directory / "tokens.csv").write_text("".join(lines))
        for name in users:
            self.kubeconfig_of(name).write_text(yaml.safe_dump(self._kubeconfig(name)))

    def _kubeconfig(self, user: str) -> Mapping[str, object]:
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": _token(user)}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "current-context": "here",
        }


def _parse_body(text: bytes) -> dict[str, Any]:
    """Text that is not JSON becomes the message of a ``Status``."""
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"message": text.decode("utf-8", "replace")}
    return document


def _token(user: str) -> str:
    return f"token-of-{user}"
