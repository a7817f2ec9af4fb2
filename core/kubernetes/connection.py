"""One API server with one identity: requests as bytes and headers, no meaning."""

from __future__ import annotations

from typing import Any

import aiohttp


class Connection:
    """Around a client of the ``kubernetes`` package, which knows how to prove who we are."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  # the package is not typed for us
        self._client = client

    async def send(
        self, method: str, path: str, body: object, content: str, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """The answer, its body unread; ``path`` with its query. Raises what aiohttp raises."""
        headers = {"Accept": "application/json", "Content-Type": content}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path
        answer = await self._client.call_api(method, url, headers, body, _request_timeout=limits)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
