"""The provider's HTTP client: one request at a time, bounded, and never repeated by itself.

A failure says whether the provider can have done something: ``ProviderRefused`` means that it said
no, any other ``ProviderError`` that nobody knows. TLS is verified unless an operator forbids it.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from core.allocation.provider_settings import ProviderSettings
from core.errors import DeadlineExceeded, ProviderError, ProviderRefused
from core.process.tls import not_strict
from workflows.jobs.provider.wire import (
    ALLOCATE,
    ANSWER_BYTES_MAX,
    RELEASE,
    TIMEOUT_HEADER,
    BoundAddress,
    ProviderAllocateRequest,
    ProviderReleaseRequest,
    read_answer,
)

BUDGET_S_MIN: Final = 48.0
"""A caller whose deadline is nearer than this is not worth a call: it would leave an unknown."""

SAID_CHARS_MAX: Final = 200
"""Of a refusal's text."""

GONE: Final = frozenset({404, 410})
"""Answers to a release that mean: nothing is bound there."""


class ProviderClient:
    """Speaks to one provider. Make it inside the event loop; ``close`` it, or use it in a with."""

    def __init__(
        self, settings: ProviderSettings, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._now_s = now_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def allocate(
        self, request: ProviderAllocateRequest, *, deadline_s: float
    ) -> tuple[BoundAddress, ...]:
        """Bind all or fail; ``deadline_s`` is the caller's, in Unix seconds.

        Raises DeadlineExceeded (no call was made), ProviderRefused, ProviderError.
        """
        left_s = deadline_s - self._now_s()
        if left_s < BUDGET_S_MIN:
            raise DeadlineExceeded(
                f"parent budget insufficient: {left_s:.1f} s are left, a call takes up to "
                f"{BUDGET_S_MIN:g} s",
                subject=f"{request.pod_namespace}/{request.pod_name}",
                remedy="the runtime tries again",
            )
        timeout_s = min(left_s, self._settings.request_timeout_s)
        _, data = await self._post(ALLOCATE, msgspec.json.encode(request), timeout_s)
        return read_answer(data, request)

    async def release(self, request: ProviderReleaseRequest) -> None:
        """Return when nothing is bound to the address. Raises ProviderRefused, ProviderError."""
        body = msgspec.json.encode(request)
        await self._post(RELEASE, body, self._settings.request_timeout_s, fine=GONE)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(
        self, path: str, body: bytes, timeout_s: float, *, fine: frozenset[int] = frozenset()
    ) -> tuple[int, bytes]:
        url = self._settings.server_url + path
        headers = {
            "Content-Type": "application/json",
            TIMEOUT_HEADER: str(math.ceil(timeout_s * 1000)),
        }
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._connected().post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                data = await _bounded(answer.content)
        except TimeoutError as error:
            raise ProviderError(
                f"provider-interaction timeout: {url} did not answer within {timeout_s:g} s",
                subject=url,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise ProviderError(f"{url}: {said}", subject=url) from error
        _judge(answer.status, data, url, fine)
        return answer.status, data

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = aiohttp.TCPConnector(ssl=self._tls())
            self._session = aiohttp.ClientSession(connector=limits)
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._settings.verify_tls:
            return False
        return not_strict(ssl.create_default_context(cafile=self._settings.ca_file or None))


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    parts = bytearray()
    async for part in content.iter_chunked(1 << 16):
        parts += part
        if len(parts) > ANSWER_BYTES_MAX:
            raise ProviderError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(parts)


def _judge(status: int, data: bytes, url: str, fine: frozenset[int]) -> None:
    """Any 2xx is a success; a client error is a no, everything else is unknown."""
    if 200 <= status < 300 or status in fine:
        return
    said = data[:SAID_CHARS_MAX].decode(errors="replace")
    kind = ProviderRefused if 400 <= status < 500 else ProviderError
    raise kind(f"{url} answers {status}: {said}", subject=url, remedy="look at the provider's log")
