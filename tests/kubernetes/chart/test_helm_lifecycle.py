"""Upgrading or uninstalling the chart with Helm keeps the users' objects on a real API server.

No controller, kubelet or garbage collector runs.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.certificates.certificate_keeper import CertificateKeeper
from ops.kubernetes.settings import SecretSettings
from tests.chart.rendering import CHART_FOLDER, values_of
from tests.kubernetes.objects import get, path_of, pool
from tests.kubernetes.webhooks import CONFIGURATION_PATHS
from tests.support.deadlines import attempts
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.parts import HELM, needs

helm = pytest.importorskip("helm_python", reason=needs(HELM))

RELEASE = "orbweaver"
RELEASE_NAMESPACE = "helmed"
CONTROLLER = "helmed-controller"
SECRET_NAME = "orbweaver-controller-server-certs"
ARCHIVE_CLAIM_PATH = (
    f"/api/v1/namespaces/{RELEASE_NAMESPACE}/persistentvolumeclaims/orbweaver-archive"
)
VALIDATING_PATH = f"{CONFIGURATION_PATHS['ValidatingWebhookConfiguration']}/spiderpool-controller"


@pytest.fixture
def helm_config(server: ApiServer) -> Iterator[Any]:
    with helm.Config(kubeconfig_path=server.kubeconfig, namespace=RELEASE_NAMESPACE) as config:
        config.install(
            CHART_FOLDER,
            RELEASE,
            unique_values(),
            namespace=RELEASE_NAMESPACE,
            create_namespace=True,
        )
        yield config
        config.uninstall(RELEASE, ignore_not_found=True, wait="hookOnly")
    for kind in ("secrets", "persistentvolumeclaims"):
        server.request("DELETE", f"/api/v1/namespaces/{RELEASE_NAMESPACE}/{kind}")
    unprotected = {"metadata": {"finalizers": None}}  # no controller removes the finalizer here
    server.request("PATCH", ARCHIVE_CLAIM_PATH, unprotected, content=MERGE_PATCH)


def unique_values() -> Any:
    """Values of the profile ``smallest``, with role names that no other test uses."""
    values = values_of("smallest")
    values["spiderpoolController"]["name"] = CONTROLLER
    values["spiderpoolAgent"] = {"name": "helmed-agent"}
    return values


async def create_certificate(server: ApiServer, directory: Path) -> None:
    """Create the Secret with the certificate and set the CA bundles, as a controller does."""
    api = Api(await open_connection(str(server.kubeconfig)))
    settings = SecretSettings(
        SECRET_NAME,
        RELEASE_NAMESPACE,
        (f"orbweaver-controller.{RELEASE_NAMESPACE}.svc",),
        directory,
    )
    await CertificateKeeper(api, settings).reconcile()
    await api.close()


def create_without_webhooks(server: ApiServer, kind: str, manifest: Any) -> None:
    """Delete the release's webhooks, which no process serves here; then create the object.

    The creation is repeated while the API server still calls the deleted webhooks.
    """
    for path in CONFIGURATION_PATHS.values():
        server.request(
            "PATCH", f"{path}/spiderpool-controller", {"webhooks": []}, content=MERGE_PATCH
        )
    for _ in attempts():
        created = server.request("POST", path_of(kind), manifest)
        if created.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            assert created.status == HTTPStatus.CREATED, created.message
            return
        time.sleep(0.05)
    raise TimeoutError("the API server still calls the deleted webhooks")


def read_secret(server: ApiServer) -> Any:
    return server.request(
        "GET", f"/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/{SECRET_NAME}"
    ).body["data"]


def validating_webhooks(server: ApiServer) -> dict[str, Any]:
    webhooks = server.request("GET", VALIDATING_PATH).body["webhooks"]
    return {webhook["name"]: webhook for webhook in webhooks}


async def test_an_upgrade_keeps_the_secret_and_the_ca_bundles(
    server: ApiServer, helm_config: Any, tmp_path: Path
) -> None:
    await create_certificate(server, tmp_path)
    before, secret_before = validating_webhooks(server), read_secret(server)
    values = unique_values()
    values["spiderpoolController"]["enableValidatingResourcesDeletedWebhook"] = True
    helm_config.upgrade(CHART_FOLDER, RELEASE, values, namespace=RELEASE_NAMESPACE)
    after = validating_webhooks(server)

    name = "spiderippool.spiderpool.spidernet.io"
    assert after[name]["rules"][0]["operations"] == ["CREATE", "UPDATE", "DELETE"]
    assert read_secret(server) == secret_before
    # With the new value, the webhooks refuse deletions; those that only warn are removed.
    warning_webhooks = {webhook for webhook in before if "-deletion." in webhook}
    assert before.keys() - after.keys() == warning_webhooks
    for webhook, configuration in after.items():
        bundle = before[webhook]["clientConfig"]["caBundle"]
        assert base64.b64decode(bundle), "the bundle must not be empty"
        assert configuration["clientConfig"]["caBundle"] == bundle


def test_an_uninstallation_deletes_the_releases_objects_and_keeps_pools_and_the_archive(
    server: ApiServer, helm_config: Any
) -> None:
    user_pool = pool()
    user_pool["metadata"]["finalizers"] = ["spiderpool.spidernet.io"]
    create_without_webhooks(server, "SpiderIPPool", user_pool)

    helm_config.uninstall(RELEASE, wait="hookOnly")

    assert server.request("GET", VALIDATING_PATH).status == 404
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    assert server.request("GET", f"{roles}/{CONTROLLER}").status == 404
    apps = f"/apis/apps/v1/namespaces/{RELEASE_NAMESPACE}"
    for plural in ("deployments", "daemonsets", "statefulsets"):
        workloads = server.request("GET", f"{apps}/{plural}").body["items"]
        assert all("deletionTimestamp" in item["metadata"] for item in workloads), plural
    assert get(server, "SpiderIPPool", "blue")["spec"]["subnet"] == "10.6.0.0/16"
    assert "deletionTimestamp" not in server.request("GET", ARCHIVE_CLAIM_PATH).body["metadata"]


def test_helm_lint_reports_no_warning() -> None:
    for chart in (CHART_FOLDER, CHART_FOLDER.with_name("orbweaver-crds")):
        report = helm.lint(chart, strict=False)
        warnings = [message for message in report["messages"] if message["severity"] >= 2]
        assert warnings == []
