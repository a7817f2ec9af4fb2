"""Two controllers with the chart's environment variables share a certificate; one leads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.translator_harness import until
from tests.support.controller_process import ControllerProcess
from tests.support.etcd import free_ports
from tests.support.kubernetes import ApiServer

ORBWEAVER_CLUSTER = "as-charted"
SECRET_PATH = "/api/v1/namespaces/default/secrets/webhook-certs"
LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases/spiderpool-controller-leases"


class Replica:
    """A controller and its webhook port."""

    def __init__(self, process: ControllerProcess, port: int) -> None:
        self.process = process
        self._port = port

    def served_certificate(self) -> str:
        """The certificate of the webhooks; "" before the port is open."""
        try:
            return ssl.get_server_certificate(("127.0.0.1", self._port))
        except OSError:
            return ""


@pytest.fixture
def replicas(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Replica]]:
    (endpoint,) = server.etcd_endpoints
    monkeypatch.setenv("SPIDERPOOL_POD_NAMESPACE", "default")
    monkeypatch.setenv("ORBWEAVER_TLS_SECRET", "webhook-certs")
    replica_by_name: dict[str, Replica] = {}
    with ExitStack() as stack:
        for name in ("c-1", "c-2"):
            (port,) = free_ports(1)
            monkeypatch.setenv("SPIDERPOOL_WEBHOOK_PORT", str(port))
            monkeypatch.setenv("ORBWEAVER_TLS_DIR", str(tmp_path / name))
            option = f"--kubeconfig={server.kubeconfig}"
            process = ControllerProcess(name, endpoint, ORBWEAVER_CLUSTER, tmp_path, option)
            replica_by_name[name] = Replica(stack.enter_context(process), port)
        yield replica_by_name
    for path in (SECRET_PATH, LEASE_PATH):
        server.request("DELETE", path)


async def test_two_controllers_serve_one_certificate_and_the_standby_takes_over(
    server: ApiServer, replicas: dict[str, Replica]
) -> None:
    def lease_spec() -> dict[str, Any]:
        spec: dict[str, Any] = server.request("GET", LEASE_PATH).body.get("spec", {})
        return spec

    leader = str(await until(lambda: lease_spec().get("holderIdentity")))
    (standby,) = replicas.keys() - {leader}
    certificate = await until(replicas["c-1"].served_certificate)
    assert await until(replicas["c-2"].served_certificate) == certificate

    assert await asyncio.to_thread(replicas[leader].process.terminate) == 0
    await until(lambda: lease_spec().get("holderIdentity") == standby)

    assert lease_spec()["leaseTransitions"] >= 1
    assert replicas[standby].served_certificate() == certificate
