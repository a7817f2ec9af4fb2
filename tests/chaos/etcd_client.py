"""The chaos test's etcd client: connects without the proxies, and uses no code of the product."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, NamedTuple

import grpc
from etcd3 import etcdrpc

REQUEST_S: Final = 2.0
DEADLINE_S: Final = 120.0
PAUSE_S: Final = 0.1
MESSAGE_BYTES_MAX: Final = 1 << 28


class EtcdUnreachable(Exception):
    """No member responded within ``DEADLINE_S``."""


class Entry(NamedTuple):
    """A key with its value and the revision of its last change."""

    key: str
    value: bytes
    revision: int


class Etcd:
    """A client of all members; retries each request. ``revision`` is the newest received."""

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        self._channels = [grpc.aio.insecure_channel(each, options=options) for each in endpoints]
        self._stubs = [etcdrpc.KVStub(channel) for channel in self._channels]
        self.revision = 0

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def current_revision(self) -> int:
        answer = await self._request("Range", etcdrpc.RangeRequest(key=b"/none"))
        return int(answer.header.revision)

    async def entries(self, prefix: str, *, limit: int = 0) -> list[Entry]:
        """Read the keys below a prefix. A ``limit`` of 0 means no limit."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        request = etcdrpc.RangeRequest(key=start, range_end=end, limit=limit)
        answer = await self._request("Range", request)
        return [
            Entry(kv.key.decode("utf-8", "replace"), kv.value, kv.mod_revision) for kv in answer.kvs
        ]

    async def put(self, key: str, value: bytes, *, keep_lease: bool = False) -> int:
        """Return the revision of the write."""
        request = etcdrpc.PutRequest(key=key.encode(), value=value, ignore_lease=keep_lease)
        answer = await self._request("Put", request)
        return int(answer.header.revision)

    async def replace(self, entry: Entry, value: bytes | None) -> bool:
        """Replace the value, or delete the key for None. Return False if the entry has changed."""
        request = etcdrpc.TxnRequest()
        compare = request.compare.add()
        compare.key = entry.key.encode()
        compare.target = etcdrpc.Compare.MOD
        compare.mod_revision = entry.revision
        if value is None:
            request.success.add().request_delete_range.key = entry.key.encode()
        else:
            put = request.success.add().request_put
            put.key, put.value, put.ignore_lease = entry.key.encode(), value, True
        answer = await self._request("Txn", request)
        return bool(answer.succeeded)

    async def _request(self, method: str, request: Any) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        fault = "no request was sent"
        while time.monotonic() < deadline:
            for stub in self._stubs:
                try:
                    answer = await getattr(stub, method)(request, timeout=REQUEST_S)
                except grpc.RpcError as error:
                    fault = str(error)
                else:
                    self.revision = max(self.revision, int(answer.header.revision))
                    return answer
            await asyncio.sleep(PAUSE_S)
        raise EtcdUnreachable(fault)
