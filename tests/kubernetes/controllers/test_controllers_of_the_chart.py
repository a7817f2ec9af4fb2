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

    def shown(self) -> str:
        """The certificate of its webhooks; "" before they serve."""
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
    found: dict[str, Replica] = {}
    with ExitStack() as stack:
        for name in ("c-1", "c-2"):
            (port,) = free_ports(1)
            monkeypatch.setenv("SPIDERPOOL_WEBHOOK_PORT", str(port))
            monkeypatch.setenv("ORBWEAVER_TLS_DIR", str(tmp_path / name))
            option = f"--kubeconfig={server.kubeconfig}"
            process = ControllerProcess(name, endpoint, CLUSTER, tmp_path, option)
            found[name] = Replica(stack.enter_context(process), port)
        yield found
    for path in (SECRET, LEASE):
        server.request("DELETE", path)


async def test_they_show_one_certificate_and_hand_the_lead_over(
    server: ApiServer, replicas: dict[str, Replica]
) -> None:
    def lease() -> dict[str, Any]:
        found: dict[str, Any] = server.request("GET", LEASE).body.get("spec", {})
        return found

    first = str(await until(lambda: lease().get("holderIdentity")))
    (other,) = replicas.keys() - {first}
    certificate = await until(replicas["c-1"].shown)
    assert await until(replicas["c-2"].shown) == certificate

    assert await asyncio.to_thread(replicas[first].process.terminate) == 0
    await until(lambda: lease().get("holderIdentity") == other)

    assert lease()["leaseTransitions"] >= 1
    assert replicas[other].shown() == certificate
