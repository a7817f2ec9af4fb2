"""Two controllers as processes with the chart's settings: one certificate, one leader."""

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

CLUSTER = "as-charted"
SECRET = "/api/v1/namespaces/default/secrets/webhook-certs"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/spiderpool-controller-leases"


class Replica:
    """A controller and its webhook port."""

    def __init__(self, process: ControllerProcess, port: int) -> None:
        self.process = process
        self._port = port

    def served_certificate(self) -> str:
        """The certificate of the controller's webhooks; "" before the webhooks serve."""
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
            process = ControllerProcess(name, endpoint, CLUSTER, tmp_path, option)
            replica_by_name[name] = Replica(stack.enter_context(process), port)
        yield replica_by_name
    for path in (SECRET, LEASE):
        server.request("DELETE", path)


async def test_two_controllers_serve_one_certificate_and_the_second_leads_after_the_first_ends(
    server: ApiServer, replicas: dict[str, Replica]
) -> None:
    def lease() -> dict[str, Any]:
        spec: dict[str, Any] = server.request("GET", LEASE).body.get("spec", {})
        return spec

    first = str(await until(lambda: lease().get("holderIdentity")))
    (other,) = replicas.keys() - {first}
    certificate = await until(replicas["c-1"].served_certificate)
    assert await until(replicas["c-2"].served_certificate) == certificate

    assert await asyncio.to_thread(replicas[first].process.terminate) == 0
    await until(lambda: lease().get("holderIdentity") == other)

    assert lease()["leaseTransitions"] >= 1
    assert replicas[other].served_certificate() == certificate
