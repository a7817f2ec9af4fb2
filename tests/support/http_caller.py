"""A client of the agent's HTTP API, over its unix socket or a TCP port."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import aiohttp

DEADLINE = aiohttp.ClientTimeout(total=20)


class HttpReply(NamedTuple):
    """A response."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def over_socket(
    path: str,
    method: str,
    url: str,
    body: object = None,
    *,
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> HttpReply:
    """Send ``body`` as JSON, or ``data`` unchanged."""
    if data is None and body is not None:
        data = json.dumps(body).encode()
    if headers is None:
        headers = {"Content-Type": "application/json"} if data is not None else {}
    skip = ("Content-Type",)
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession(connector=connector, timeout=DEADLINE) as session:
        stream = None if data is None else io.BytesIO(data)
        request = session.request(
            method, f"http://agent{url}", data=stream, headers=headers, skip_auto_headers=skip
        )
        async with request as answer:
            return HttpReply(answer.status, await answer.read(), dict(answer.headers))


async def over_tcp(
    port: int, url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> HttpReply:
    async with (
        aiohttp.ClientSession(timeout=DEADLINE) as session,
        session.request(method, f"http://127.0.0.1:{port}{url}", headers=headers) as answer,
    ):
        return HttpReply(answer.status, await answer.read(), dict(answer.headers))
