"""A replica is ready when it serves the webhooks that the API server calls."""

from __future__ import annotations

from pathlib import Path

from core.eventstore.memory_store import MemoryStore
from ops.controller.controller import Controller
from ops.controller.settings import load_settings


async def test_a_replica_is_ready_once_it_serves_its_webhooks(tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("tls.crt", "tls.key", "kubeconfig")}
    for path in files.values():
        Path(path).touch()
    variables = {
        "ORBWEAVER_KUBECONFIG": files["kubeconfig"],
        "ORBWEAVER_TLS_CERT_FILE": files["tls.crt"],
        "ORBWEAVER_TLS_KEY_FILE": files["tls.key"],
        "SPIDERPOOL_POD_NAME": "c-1",
    }
    controller = Controller(load_settings("/nonexistent/conf.yml", variables), MemoryStore())
    assert controller.admission is not None

    before = {check.name: check.fault for check in controller.health.ready()}
    controller.admission.port = 5722
    after = {check.name: check.fault for check in controller.health.ready()}

    assert before["webhooks"] is not None
    assert after["webhooks"] is None
