"""A DNS server that answers A queries for headless Services and their Pods as CoreDNS does.

    python -m tests.installation.cluster_dns KUBECONFIG ADDRESS

EndpointSlices and responses are cached for ``TTL_S``: etcd's members and clients query a name many
times a second until it has an address.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection

DOMAIN: Final = "cluster.local"
PORT: Final = 53
TTL_S: Final = 1
SLICES: Final = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
ID_BYTES: Final = 2
"""Queries and responses begin with the query ID (RFC 1035, section 4.1.1)."""

CACHED_RESPONSES_MAX: Final = 1_000

NAME: Final = re.compile(
    rf"(?:(?P<host>[^.]+)\.)?(?P<service>[^.]+)\.(?P<namespace>[^.]+)\.svc\.{re.escape(DOMAIN)}\."
)


class Resolver(asyncio.DatagramProtocol):
    """Answers a query from the cache, or else in a new task."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._tasks: set[asyncio.Task[None]] = set()
        self._slices: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self._responses: dict[bytes, tuple[float, bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        sent_at, response = self._responses.get(data[ID_BYTES:], (-math.inf, b""))
        if time.monotonic() - sent_at < TTL_S:
            self._transport.sendto(data[:ID_BYTES] + response, address)
            return
        task = asyncio.create_task(self._answer(data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, address: Any) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        question = query.question[0]
        name = question.name.to_text().lower()
        addresses = await self._addresses_of(name)
        if not addresses:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", "A", *addresses))
        response = answer.to_wire()
        if len(self._responses) >= CACHED_RESPONSES_MAX:
            self._responses.clear()
        self._responses[data[ID_BYTES:]] = time.monotonic(), response[ID_BYTES:]
        self._transport.sendto(response, address)

    async def _addresses_of(self, name: str) -> list[str]:
        matched = NAME.fullmatch(name)
        if matched is None:
            return []
        slices = await self._slices_of(matched["namespace"])
        return sorted(set(_endpoint_addresses(slices, matched["service"], matched["host"])))

    async def _slices_of(self, namespace: str) -> list[dict[str, Any]]:
        now = time.monotonic()
        read_at, slices = self._slices.get(namespace, (-math.inf, []))
        if now - read_at >= TTL_S:
            slices = (await self._api.list(SLICES.format(namespace))).items
            self._slices[namespace] = now, slices
        return slices


def _endpoint_addresses(
    slices: list[dict[str, Any]], service: str, host: str | None
) -> Iterator[str]:
    for endpoint_slice in slices:
        if endpoint_slice["metadata"]["labels"].get("kubernetes.io/service-name") != service:
            continue
        for endpoint in endpoint_slice.get("endpoints") or ():
            if host in {None, endpoint.get("hostname")}:
                yield from endpoint["addresses"]


async def serve(kubeconfig: Path, address: str) -> None:
    """Answer queries until the process is killed."""
    api = Api(await open_connection(str(kubeconfig)))
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Resolver(api), local_addr=(address, PORT))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
