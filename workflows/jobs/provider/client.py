"""The client of a network provider's HTTP API. See docs/reference/http-api.md.

The client does not retry. ProviderRefused: the provider rejected the request and did nothing. After
any other ProviderError the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from core.allocation.provider_settings import ProviderSettings
from core.errors import DeadlineExceeded, ProviderError, ProviderRefused
from core.process import tracing
from core.process.tls import without_strict_x509

ALLOCATE_PATH: Final = "/v1/apis/network.iaas.io/ipam/allocate-ips"
RELEASE_PATH: Final = "/v1/apis/network.iaas.io/ipam/release-ip"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
RESPONSE_BYTES_MAX: Final = 1 << 20

BUDGET_S_MIN: Final = 48.0
"""Minimum seconds until the caller's deadline when an allocate request is sent."""

ERROR_BYTES_MAX: Final = 200
"""Maximum bytes of a response that an error text quotes."""

NOT_BOUND: Final = frozenset({404, 410})
"""Status codes of the response to the release of an address that is not bound."""


class RequestedAddress(msgspec.Struct, frozen=True, rename="camel"):
    """One address to bind."""

    ip_address: str
    subnet: str
    parent_nic_mac: str


class ProviderAllocateRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A request to bind all addresses of one Pod."""

    pod_name: str
    pod_namespace: str
    node_name: str
    addresses: tuple[RequestedAddress, ...] = msgspec.field(name="iaasIPsAllocationRequest")
    pod_uid: str = msgspec.field(name="podUID", default="")


class BoundAddress(msgspec.Struct, frozen=True, rename="camel"):
    """One bound address. ``mac_address`` "" or ``vlan_id`` 0: the provider chose none."""

    ip_address: str
    mac_address: str = ""
    vlan_id: int = 0


class ProviderAllocateResponse(msgspec.Struct, frozen=True, rename="camel"):
    """The response to a ``ProviderAllocateRequest``."""

    addresses: tuple[BoundAddress, ...] = msgspec.field(name="iaasIPsAllocationResponse")


class ProviderReleaseRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One address to release."""

    pod_name: str
    pod_namespace: str
    node_name: str
    subnet: str
    ip_address: str
    pod_uid: str = msgspec.field(name="podUID", default="")
    parent_nic_mac: str = ""


class ProviderClient:
    """The client of one provider. Close the client after use."""

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
        """Bind all addresses, or fail. ``deadline_s``: the deadline of the caller, in Unix seconds.

        Raises DeadlineExceeded (no call was made), ProviderRefused, ProviderError.
        """
        remaining_s = deadline_s - self._now_s()
        if remaining_s < BUDGET_S_MIN:
            raise DeadlineExceeded(
                f"parent budget insufficient: too little time left for the provider call: "
                f"{remaining_s:.1f} s, at least {BUDGET_S_MIN:g} s are needed",
                subject=f"{request.pod_namespace}/{request.pod_name}",
                remedy="the container runtime retries the ADD",
            )
        timeout_s = min(remaining_s, self._settings.request_timeout_s)
        data = await self._post(ALLOCATE_PATH, msgspec.json.encode(request), timeout_s)
        return read_response(data, request)

    async def release(self, request: ProviderReleaseRequest) -> None:
        """Release an address, if it is bound. Raises ProviderRefused, ProviderError."""
        body = msgspec.json.encode(request)
        await self._post(RELEASE_PATH, body, self._settings.request_timeout_s, accepted=NOT_BOUND)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(
        self, path: str, body: bytes, timeout_s: float, *, accepted: frozenset[int] = frozenset()
    ) -> bytes:
        url = self._settings.server_url + path
        with tracing.child_span("POST", "client", _span_attributes(url)) as span:
            status, data = await self._exchange(url, body, timeout_s)
            if span is not None:
                span.set_attribute("http.response.status_code", status)
            _check_status(status, data, url, accepted)
            return data

    async def _exchange(self, url: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """The status and body of the response. Raises ProviderError."""
        headers = {
            "Content-Type": "application/json",
            TIMEOUT_HEADER: str(math.ceil(timeout_s * 1000)),
            **tracing.headers(),
        }
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._open_session().post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return response.status, await _read_limited(response.content)
        except TimeoutError as error:
            raise ProviderError(
                f"provider-interaction timeout: {url} did not respond within {timeout_s:g} s",
                subject=url,
                remedy="check the provider's health and load",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ProviderError(
                f"cannot reach the network provider at {url}: {reason}",
                subject=url,
                remedy="check iaasNetworkProvider.serverUrl and the connection to the provider",
            ) from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls())
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._settings.verify_tls:
            return False
        return without_strict_x509(
            ssl.create_default_context(cafile=self._settings.ca_file or None)
        )


async def _read_limited(content: aiohttp.StreamReader) -> bytes:
    parts = bytearray()
    async for part in content.iter_chunked(1 << 16):
        parts += part
        if len(parts) > RESPONSE_BYTES_MAX:
            raise ProviderError(
                f"the network provider's response has more than {RESPONSE_BYTES_MAX} bytes",
                remedy="check iaasNetworkProvider.serverUrl, and the provider's log",
            )
    return bytes(parts)


def _span_attributes(url: str) -> tracing.Attributes:
    parts = urlsplit(url)
    return {
        "http.request.method": "POST",
        "server.address": parts.hostname or "",
        "server.port": parts.port or DEFAULT_PORTS[parts.scheme],
        "url.path": parts.path,
    }


def _check_status(status: int, data: bytes, url: str, accepted: frozenset[int]) -> None:
    """Accept 2xx and ``accepted``. Raise ProviderRefused for 4xx, ProviderError for the rest."""
    if 200 <= status < 300 or status in accepted:
        return
    text = data[:ERROR_BYTES_MAX].decode(errors="replace")
    kind = ProviderRefused if 400 <= status < 500 else ProviderError
    raise kind(f"{url} responded {status}: {text}", subject=url, remedy="check the provider's log")


_responses = msgspec.json.Decoder(ProviderAllocateResponse)


def read_response(data: bytes, request: ProviderAllocateRequest) -> tuple[BoundAddress, ...]:
    """The bound addresses. Raises ProviderError unless these are the requested addresses."""
    try:
        bound = _responses.decode(data).addresses
    except msgspec.MsgspecError as error:
        raise ProviderError(
            f"cannot read the network provider's response: {error}",
            remedy="check iaasNetworkProvider.serverUrl, and the provider's log",
        ) from error
    requested = sorted(address.ip_address for address in request.addresses)
    bound_addresses = sorted(address.ip_address for address in bound)
    if bound_addresses != requested:
        raise ProviderError(
            f"the provider bound {', '.join(bound_addresses) or 'nothing'} instead of "
            f"{', '.join(requested)}",
            subject=f"{request.pod_namespace}/{request.pod_name}",
            remedy="check the provider's log",
        )
    return bound
