"""``Api.find`` returns None only if an API server answers that the object does not exist.

Any other 404 raises ``ApiNotServed``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from core.errors import ApiNotServed, ApiUnavailable
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from tests.support.kubernetes import ApiServer


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    connection = Api(await open_connection(str(server.kubeconfig)))
    yield connection
    await connection.close()


@pytest.mark.parametrize("namespace", ["shop", "nowhere"])
async def test_find_returns_none_for_a_pod_that_does_not_exist(api: Api, namespace: str) -> None:
    assert await api.find(f"/api/v1/namespaces/{namespace}/pods/ghost") is None


@pytest.mark.parametrize(
    "path",
    [
        "/apis/unknown.example/v1/namespaces/shop/things/ghost",
        "/api/v1/namespaces/shop/things/ghost",
        "/nonsense",
    ],
)
async def test_find_raises_api_not_served_for_an_unknown_path(api: Api, path: str) -> None:
    with pytest.raises(ApiNotServed):
        await api.find(path)


@pytest.fixture
async def api_of_web_server(tmp_path: Path) -> AsyncIterator[Api]:
    """An ``Api`` connected to a web server that is not an API server."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<h1>Maintenance</h1>")

    app = web.Application()
    app.router.add_get("/api/v1/{rest:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    cluster = {"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    users = [{"name": "me", "user": {}}]
    document = {
        "clusters": [cluster],
        "contexts": [context],
        "users": users,
        "current-context": "here",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    connection = Api(await open_connection(str(tmp_path / "kubeconfig")))
    yield connection
    await connection.close()
    await runner.cleanup()


async def test_find_raises_api_not_served_for_a_404_of_a_web_server(api_of_web_server: Api) -> None:
    with pytest.raises(ApiNotServed):
        await api_of_web_server.find("/apis/apps/v1/namespaces/shop/deployments/web")


async def test_an_html_page_instead_of_json_raises_api_unavailable(api_of_web_server: Api) -> None:
    path = "/api/v1/namespaces/shop/pods"

    with pytest.raises(ApiUnavailable):
        await api_of_web_server.find(f"{path}/web-0")
    with pytest.raises(ApiUnavailable):
        await api_of_web_server.list(path)
    with pytest.raises(ApiUnavailable):
        await anext(api_of_web_server.watch(path, "1"))
