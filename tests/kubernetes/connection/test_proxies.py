"""Requests to the API server use the proxy of the environment or of the kubeconfig."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection

ANSWER = b'{"kind":"Pod"}'
STOPPED_PROXY = "http://127.0.0.1:1"
"""The URL of a proxy that does not run."""


@asynccontextmanager
async def proxy(requests: list[str]) -> AsyncIterator[str]:
    """A proxy that answers every request and appends the request line to ``requests``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head.decode().splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def write_kubeconfig(directory: Path, server: str, **cluster: Any) -> str:
    path = directory / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


async def get_pod(config: str) -> dict[str, Any]:
    api = Api(await open_connection(config))
    try:
        return await api.get("/api/v1/namespaces/shop/pods/web-0")
    finally:
        await api.close()


async def test_requests_use_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    async with proxy(requests) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "other.example")  # not the API server

        assert await get_pod(write_kubeconfig(tmp_path, "http://api.example")) == {"kind": "Pod"}

    assert requests == ["GET http://api.example/api/v1/namespaces/shop/pods/web-0 HTTP/1.1"]


async def test_a_server_in_no_proxy_is_reached_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    async with proxy(requests) as url:  # the proxy plays the API server
        monkeypatch.setenv("http_proxy", STOPPED_PROXY)
        monkeypatch.setenv("no_proxy", "127.0.0.1")

        assert await get_pod(write_kubeconfig(tmp_path, url)) == {"kind": "Pod"}

    assert requests == ["GET /api/v1/namespaces/shop/pods/web-0 HTTP/1.1"]


async def test_the_proxy_of_the_kubeconfig_overrides_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    async with proxy(requests) as url:
        monkeypatch.setenv("http_proxy", STOPPED_PROXY)

        pod = await get_pod(write_kubeconfig(tmp_path, "http://api.example", **{"proxy-url": url}))

    assert pod == {"kind": "Pod"}
    assert len(requests) == 1
