"""TLS clients accept CA certificates without the key usage extension.

Python 3.13 refuses such certificates by default (``VERIFY_X509_STRICT``).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from core.allocation.provider_settings import ProviderSettings
from core.errors import ApiUnavailable
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from tests.support.authorities import PlainAuthority
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from workflows.jobs.provider.client import ProviderClient, ProviderReleaseRequest

RELEASE = ProviderReleaseRequest(
    pod_name="web",
    pod_namespace="shop",
    node_name="node-a",
    subnet="10.6.0.0/16",
    ip_address="10.6.0.9",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PlainAuthority:
    """A CA without the key usage extension."""
    return PlainAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def strict_default_context(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ssl.SSLContext]:
    original = ssl.create_default_context

    def default_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = original(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", default_context)
    return default_context


@pytest.fixture
async def server(authority: PlainAuthority) -> AsyncIterator[str]:
    """The URL of an HTTPS server that returns one Pod."""

    async def pod(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "web-0"}})

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/shop/pods/web-0", pod)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context())
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def kubeconfig(directory: Path, server: str, ca: Path) -> str:
    cluster = {"name": "here", "cluster": {"server": server, "certificate-authority": str(ca)}}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    config = {
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "me", "user": {}}],
        "current-context": "here",
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


async def test_a_strict_context_of_python_refuses_an_authority_without_key_usage(
    server: str, authority: PlainAuthority, strict_default_context: Callable[..., ssl.SSLContext]
) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="key usage"):
            await session.get(server, ssl=strict_default_context(cafile=authority.ca))


async def test_the_api_client_accepts_an_authority_without_key_usage(
    server: str, authority: PlainAuthority, tmp_path: Path
) -> None:
    api = Api(await open_connection(kubeconfig(tmp_path, server, authority.ca)))

    response = await api.get("/api/v1/namespaces/shop/pods/web-0")

    await api.close()
    assert response["metadata"]["name"] == "web-0"


async def test_the_api_client_refuses_an_unknown_authority(server: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    unknown_authority = PlainAuthority(tmp_path / "other")
    api = Api(await open_connection(kubeconfig(tmp_path, server, unknown_authority.ca)))

    with pytest.raises(ApiUnavailable, match="certificate"):
        await api.get("/api/v1/namespaces/shop/pods/web-0")

    await api.close()


async def test_the_provider_client_accepts_an_authority_without_key_usage(
    authority: PlainAuthority,
) -> None:
    async with FakeProvider(authority.server_context()) as provider:
        settings = ProviderSettings(provider.url, ca_file=str(authority.ca))
        async with ProviderClient(settings, now_s=lambda: 1_000.0) as client:
            await client.release(RELEASE)

        assert len(provider.calls) == 1
