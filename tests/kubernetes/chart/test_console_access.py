"""The console of a controller allows each user what the chart's roles allow."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml

from core.eventstore.keys import Keys
from core.eventstore.memory_store import MemoryStore
from core.process.environment import EnvironmentVariables
from ops.console.console_host import ConsoleHost
from ops.console.console_settings import ConsoleSettings, console_settings
from ops.kubernetes.settings import CertificateFiles, KubernetesSettings, WebhookSettings
from tests.chart.rendering import CHART_NAMESPACE, render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.support.deadlines import until
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

CONTROLLER = "orbweaver-controller"
VIEWER, OPERATOR, WITHOUT_ROLE = "console-viewer", "console-operator", "console-without-role"
RBAC = "rbac.authorization.k8s.io"
ROLES = {VIEWER: f"{CONTROLLER}-console", OPERATOR: f"{CONTROLLER}-console-workflows"}
"""Service account -> ClusterRole of the chart."""

VALUES = {"orbweaver": {"console": {"enabled": True, "workflowActions": True}}}


def binding(account: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": ROLES[account]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": CHART_NAMESPACE}],
    }


@pytest.fixture
def tokens(server: ApiServer, tmp_path: Path) -> dict[str, str]:
    """Service account -> token; ``invalid`` -> an invalid token."""
    accounts = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": CHART_NAMESPACE},
        }
        for name in (*ROLES, WITHOUT_ROLE)
    ]
    apply_permissions(server, [*render_objects(VALUES), *accounts, *map(binding, ROLES)])
    tokens = {"invalid": "e30.e30.e30"}
    for name in (*ROLES, WITHOUT_ROLE):
        document = yaml.safe_load(kubeconfig_of(server, name, tmp_path).read_text())
        tokens[name] = document["users"][0]["user"]["token"]
    return tokens


@pytest.fixture
async def console(
    server: ApiServer, tokens: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[ConsoleHost, ssl.SSLContext]]:
    """The console, and a TLS context that trusts the console's certificate."""
    files = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key")
    kubeconfig = str(kubeconfig_of(server, CONTROLLER, tmp_path))
    settings = console_settings(
        EnvironmentVariables(
            {
                "ORBWEAVER_CONSOLE_ENABLED": "true",
                "ORBWEAVER_CONSOLE_PORT": "0",
                "ORBWEAVER_CONSOLE_WORKFLOW_ACTIONS": "true",
            }
        ),
        KubernetesSettings(kubeconfig, webhook=WebhookSettings(files)),
        "127.0.0.1",
    )
    assert settings == ConsoleSettings(
        "", 0, "token-review", files, kubeconfig, workflow_actions=True
    )
    # Listen on one address: with port 0, IPv4 and IPv6 would get different ports.
    settings = settings._replace(address="127.0.0.1")
    host = ConsoleHost(settings, MemoryStore(), Keys("test"), tmp_path, cluster="test")
    console_task = asyncio.ensure_future(host.run())
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(files.key))
    certificate.cert_chain_pems[0].write_to_path(str(files.certificate))
    tls_context = ssl.create_default_context()
    authority.configure_trust(tls_context)
    await until(lambda: host.port is not None or console_task.done())
    yield host, tls_context
    console_task.cancel()
    await asyncio.wait({console_task})


async def test_the_console_lets_users_read_and_act_as_their_role_allows(
    console: tuple[ConsoleHost, ssl.SSLContext], tokens: dict[str, str]
) -> None:
    host, tls_context = console
    api = f"https://localhost:{host.port}/api/v1"
    signal_url = f"{api}/workflows/reclaim-scan/signal"
    read_statuses, signal_statuses = {}, {}
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{api}/overview", ssl=tls_context) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert (await response.json())["error"]["remedy"].startswith("log in with the token")
        for name, token in tokens.items():
            headers = {"Authorization": f"Bearer {token}"}
            async with client.get(f"{api}/overview", ssl=tls_context, headers=headers) as response:
                read_statuses[name] = response.status
            body = {"name": "scan-now"}
            async with client.post(
                signal_url, ssl=tls_context, headers=headers, json=body
            ) as response:
                signal_statuses[name] = response.status
        headers = {"Authorization": f"Bearer {tokens[OPERATOR]}"}
        async with client.get(f"{api}/access", ssl=tls_context, headers=headers) as response:
            user = f"system:serviceaccount:{CHART_NAMESPACE}:{OPERATOR}"
            assert await response.json() == {"user": user, "workflowActions": True}
    assert read_statuses == {VIEWER: 200, OPERATOR: 200, WITHOUT_ROLE: 403, "invalid": 401}
    # 404: the operator's signal is allowed, but no execution of the workflow exists.
    assert signal_statuses == {VIEWER: 403, OPERATOR: 404, WITHOUT_ROLE: 403, "invalid": 401}
