"""A real API server on loopback over a real etcd, started, killed and started again.

Nothing else of Kubernetes runs: Pods stay as they were written and nobody collects garbage. The
programs are those of the ecosystem's convention: ``KUBEBUILDER_ASSETS``, else
``/usr/local/kubebuilder/bin`` (``setup-envtest use`` brings them there).
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import trustme
import yaml

from tests.support.etcd import EtcdCluster, free_ports

ASSETS: Final = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"

_START_DEADLINE_S: Final = 60.0
_STOP_DEADLINE_S: Final = 20.0
_CALL_S: Final = 20.0
_POLL_S: Final = 0.05
_LOG_CHARACTERS: Final = 3_000
_TOKEN: Final = "tests-are-masters"


class ApiServerFailed(Exception):
    """It did not start, or stopped by itself."""


class Answer(NamedTuple):
    """What the server said; ``body`` is an object or a ``Status``."""

    status: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """Why not, in the server's words."""
        return str(self.body.get("message", ""))


def missing_programs() -> list[str]:
    """The programs that these tests need and that are not there."""
    return [name for name in ("kube-apiserver", "kubectl") if not (ASSETS / name).is_file()]


class ApiServer:
    """One API server and its etcd, in a directory; as a context manager it is killed at the end."""

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self._etcd = EtcdCluster(directory)
        self._directory = directory
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._ca = directory / "ca.crt"
        self._write_files()
        self._tls = ssl.create_default_context(cafile=self._ca)

    def __enter__(self) -> Self:
        self._etcd.__enter__()
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
        self._etcd.kill()

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        """Where its etcd is, which has room for other keys too."""
        return self._etcd.endpoints

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is ready. Raises ApiServerFailed with its last words."""
        directory = self._directory
        flags = {
            "etcd-servers": self._etcd.members[0].url,
            "bind-address": "127.0.0.1",
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
            "watch-cache": "true",
            "profiling": "false",
        }
        command = [str(ASSETS / "kube-apiserver"), *(f"--{k}={v}" for k, v in flags.items())]
        with (directory / "kube-apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_DEADLINE_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ApiServerFailed(f"it is not ready: {self.log()[-_LOG_CHARACTERS:]}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it as a crash would; what it stored stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(_STOP_DEADLINE_S)

    def log(self) -> str:
        """All that it has logged so far."""
        return (self._directory / "kube-apiserver.log").read_text(errors="replace")

    def request(
        self, method: str, path: str, body: object = None, *, content: str = "application/json"
    ) -> Answer:
        """One request as a master of the system; refusals are answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": content}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_CALL_S, context=self._tls) as answer:
                return Answer(answer.status, json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _status(error.read()))

    def wait_served(self, path: str) -> dict[str, Any]:
        """Wait until a path answers, which a new kind and a new server do a moment late."""
        deadline = time.monotonic() + _START_DEADLINE_S
        while (answer := self.request("GET", path)).status != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise ApiServerFailed(f"{path} is not served: {answer.message}")
            time.sleep(_POLL_S)
        return answer.body

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return what it prints. Raises ApiServerFailed with its complaint."""
        command = [str(ASSETS / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = {"HOME": str(self._directory), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise ApiServerFailed(f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(
                    f"{self.url}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"}
                ),
                timeout=_CALL_S,
                context=self._tls,
            ) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def _write_files(self) -> None:
        directory = self._directory
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._ca))
        server = authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(str(directory / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(directory / "server.crt"))
        (directory / "tokens.csv").write_text(f'{_TOKEN},tester,1,"system:masters"\n')
        self.kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()))

    def _kubeconfig(self) -> Mapping[str, object]:
        cluster = {"server": self.url, "certificate-authority": str(self._ca)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "tester"}}],
            "current-context": "here",
        }


def _status(text: bytes) -> dict[str, Any]:
    """Why not; a path that is not served yet is refused in plain words."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"message": text.decode("utf-8", "replace")}
    return found
