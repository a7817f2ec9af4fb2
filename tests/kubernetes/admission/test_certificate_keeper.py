"""Replicas of a controller share the certificate of the admission webhooks in one Secret.

Each keeper also writes the authority into the webhooks' ``caBundle``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.admission.admission_host import AdmissionHost
from ops.kubernetes.admission.configurations import WebhookClientConfig, configurations
from ops.kubernetes.certificates import certificate_keeper
from ops.kubernetes.certificates.authority import AUTHORITY_DAYS, has_issued, read, split
from ops.kubernetes.certificates.certificate_keeper import CertificateKeeper
from ops.kubernetes.settings import KubernetesSettings, SecretSettings, WebhookSettings
from tests.chart.rendering import CHART_NAMESPACE, render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.translator_harness import TranslatorHarness, until
from tests.kubernetes.webhooks import CONFIGURATION_PATHS
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

SECRET_NAME = "orbweaver-controller-server-certs"
SECRET_PATH = f"/api/v1/namespaces/{CHART_NAMESPACE}/secrets/{SECRET_NAME}"
SERVICE = f"orbweaver-controller.{CHART_NAMESPACE}"
DAY_S = 86_400.0


class Replica:
    """A replica of the controller with its certificate keeper."""

    def __init__(self, api: Api, directory: Path) -> None:
        self.api = api
        self.settings = SecretSettings(
            SECRET_NAME, CHART_NAMESPACE, (SERVICE, f"{SERVICE}.svc"), directory
        )
        self.keeper = CertificateKeeper(api, self.settings)

    @property
    def served_certificate(self) -> bytes:
        """The certificate in the files that the webhook server reads."""
        return self.settings.files.certificate.read_bytes()


@pytest.fixture
async def replicas(server: ApiServer, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    """Two replicas; the webhooks have no ``caBundle`` yet."""
    apply_permissions(server, render_objects({}))
    client = WebhookClientConfig(b"", service="orbweaver-controller", namespace=CHART_NAMESPACE)
    for configuration in configurations(client, guards_deletion=False):
        for webhook in configuration["webhooks"]:
            del webhook["clientConfig"]["caBundle"]
        assert (
            server.request("POST", CONFIGURATION_PATHS[configuration["kind"]], configuration).status
            == 201
        )
    kubeconfig = str(kubeconfig_of(server, "orbweaver-controller", tmp_path))
    two_replicas = [
        Replica(Api(await open_connection(kubeconfig)), tmp_path / str(number))
        for number in range(2)
    ]
    yield two_replicas
    for replica in two_replicas:
        await replica.api.close()
    for path in CONFIGURATION_PATHS.values():
        await asyncio.to_thread(server.request, "DELETE", f"{path}/spiderpool-controller")
    await asyncio.to_thread(server.request, "DELETE", SECRET_PATH)


def set_api_clock(monkeypatch: pytest.MonkeyPatch, now_s: float) -> None:
    """Set the API server's time, which keepers use instead of their own clock."""
    monkeypatch.setattr(Api, "server_clock_s", property(lambda _: now_s))


def ca_bundles(server: ApiServer) -> set[bytes]:
    return {
        base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
        for path in CONFIGURATION_PATHS.values()
        for webhook in server.request("GET", f"{path}/spiderpool-controller").body["webhooks"]
    }


async def test_the_first_reconcile_creates_the_secret_and_sets_the_ca_bundles(
    server: ApiServer, replicas: list[Replica]
) -> None:
    await replicas[0].keeper.reconcile()

    (bundle,) = ca_bundles(server)
    assert has_issued(bundle, replicas[0].served_certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*replicas[0].settings.files)
    secret = server.request("GET", SECRET_PATH).body
    assert secret["type"] == "kubernetes.io/tls"
    assert base64.b64decode(secret["data"]["tls.crt"]) == replicas[0].served_certificate


async def test_two_replicas_that_start_concurrently_serve_the_same_certificate(
    server: ApiServer, replicas: list[Replica]
) -> None:
    await asyncio.gather(*(replica.keeper.reconcile() for replica in replicas))
    await asyncio.gather(*(replica.keeper.reconcile() for replica in replicas))

    assert replicas[0].served_certificate == replicas[1].served_certificate
    (bundle,) = ca_bundles(server)
    assert len(split(bundle)) == 1, "the bundle must have only the authority of this certificate"


async def test_a_deleted_secret_is_replaced_and_the_webhooks_trust_the_new_authority(
    server: ApiServer, replicas: list[Replica]
) -> None:
    await replicas[0].keeper.reconcile()
    before = replicas[0].served_certificate
    await asyncio.to_thread(server.request, "DELETE", SECRET_PATH)
    await replicas[1].keeper.reconcile()
    await replicas[0].keeper.reconcile()

    assert replicas[0].served_certificate == replicas[1].served_certificate != before
    (bundle,) = ca_bundles(server)
    assert has_issued(bundle, replicas[0].served_certificate)


@pytest.mark.parametrize("data", [{"tls.key": "bm9uZQ=="}, {"ca.crt": None}, {"ca.key": "????"}])
async def test_a_secret_with_invalid_data_is_repaired(
    server: ApiServer, replicas: list[Replica], data: dict[str, Any]
) -> None:
    await replicas[0].keeper.reconcile()
    answer = server.request("PATCH", SECRET_PATH, {"data": data}, content=MERGE_PATCH)
    if answer.status == 200:  # the API server refuses "????", which is not base64
        await replicas[0].keeper.reconcile()

    (bundle,) = ca_bundles(server)
    assert has_issued(split(bundle)[0], replicas[0].served_certificate)


async def test_an_expired_authority_is_replaced(
    server: ApiServer, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = dt.datetime.now(dt.UTC).timestamp()
    set_api_clock(monkeypatch, start)
    await replicas[0].keeper.reconcile()
    before = replicas[0].served_certificate
    set_api_clock(monkeypatch, start + (AUTHORITY_DAYS + 1) * DAY_S)
    await replicas[0].keeper.reconcile()

    (bundle,) = ca_bundles(server)
    assert not has_issued(split(bundle)[0], before)
    assert has_issued(split(bundle)[0], replicas[0].served_certificate)


async def test_webhooks_trust_both_authorities_while_one_replaces_the_other(
    server: ApiServer, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = dt.datetime.now(dt.UTC).timestamp()
    set_api_clock(monkeypatch, start)
    await replicas[0].keeper.reconcile()
    # The keeper creates the next authority before the present one expires.
    for fraction_of_lifetime in (0.3, 0.6, 0.64, 0.7):
        set_api_clock(monkeypatch, start + AUTHORITY_DAYS * DAY_S * fraction_of_lifetime)
        await replicas[1].keeper.reconcile()

    (bundle,) = ca_bundles(server)
    newest, oldest = split(bundle)
    assert has_issued(newest, replicas[1].served_certificate)
    assert not has_issued(oldest, replicas[1].served_certificate)


async def test_a_replica_with_a_wrong_local_clock_does_not_rotate_the_certificate(
    server: ApiServer, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    await replicas[0].keeper.reconcile()
    version = server.request("GET", SECRET_PATH).body["metadata"]["resourceVersion"]
    import time

    real = time.time
    monkeypatch.setattr("core.kubernetes.api_client.time.time", lambda: real() + 900 * DAY_S)
    await replicas[1].keeper.reconcile()

    assert server.request("GET", SECRET_PATH).body["metadata"]["resourceVersion"] == version
    assert replicas[1].served_certificate == replicas[0].served_certificate


async def test_reconcile_restores_the_ca_bundle_and_keeps_edited_fields(
    server: ApiServer, replicas: list[Replica]
) -> None:
    await replicas[0].keeper.reconcile()
    path = f"{CONFIGURATION_PATHS['ValidatingWebhookConfiguration']}/spiderpool-controller"
    webhooks = server.request("GET", path).body["webhooks"]
    webhooks[0]["clientConfig"].pop("caBundle")
    webhooks[0]["timeoutSeconds"] = 3
    server.request("PATCH", path, {"webhooks": webhooks}, content=MERGE_PATCH)
    await replicas[0].keeper.reconcile()

    assert len(ca_bundles(server)) == 1
    edited = server.request("GET", path).body["webhooks"][0]["timeoutSeconds"]
    assert edited == 3, "the keeper must change only caBundle"


async def test_a_reconcile_without_differences_writes_nothing(
    server: ApiServer, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    await replicas[0].keeper.reconcile()

    async def fail(*_: object) -> None:
        raise AssertionError("the keeper wrote to the API server")

    for verb in ("merge", "create", "apply"):
        monkeypatch.setattr(Api, verb, fail)
    await replicas[0].keeper.reconcile()
    await replicas[1].keeper.reconcile()


async def test_a_running_webhook_server_serves_the_renewed_certificate(
    server: ApiServer, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ops.kubernetes.certificates.served_certificate.CERTIFICATES_POLL_S", 0.02)
    monkeypatch.setattr(certificate_keeper, "RECONCILE_S", 0.02)
    secret = replicas[0].settings._replace(directory=tmp_path / "served")
    webhook = WebhookSettings(secret.files, "127.0.0.1", 0, secret=secret)
    settings = KubernetesSettings(str(server.kubeconfig), webhook=webhook)
    async with TranslatorHarness(server) as cluster:
        host = AdmissionHost(settings, webhook, cluster.store, cluster.keys, cluster.projector)
        running = asyncio.ensure_future(host.run())
        await cluster.until(lambda: host.port)
        assert host.port is not None

        def served_pem() -> bytes:
            return ssl.get_server_certificate(("127.0.0.1", host.port or 0)).encode()

        first = await asyncio.to_thread(served_pem)
        # Without the Secret, the keeper issues a new certificate.
        await asyncio.to_thread(server.request, "DELETE", SECRET_PATH)
        await until(lambda: read(served_pem()) != read(first))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
