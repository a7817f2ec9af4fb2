"""Runs "bare" transactions: etcd transactions like those of an ADD, sent without an agent.

Parameters: ``endpoint`` (of etcd), ``callers``, ``count``, ``first`` (the first serial number; no
serial number may be used twice), ``client`` ("grpc": grpc.aio; "own": the agent's HTTP/2 channel).
Report: ``seconds``, ``latencies_ms``, ``cpu_ms`` (of this process, per transaction).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from etcd3 import etcdrpc

from core.eventstore.etcd.http2 import Channel
from core.process.concurrency import loop_factory

VALUE = b"v" * 200
POOL = b"/bare/pool/wide"
DEADLINE_S = 30.0


def transaction(serial: int, pool_revision: int) -> Any:
    """Return the request of one bare transaction."""
    endpoint = b"/bare/endpoint/shop/web-%x" % serial
    ip = b"/bare/ip/4/%032x" % serial
    log = b"/bare/log/node-0/%016x" % serial
    request = etcdrpc.TxnRequest()
    for key in (endpoint, ip):
        compare = request.compare.add()
        compare.key = key
        compare.target = etcdrpc.Compare.CREATE
        compare.create_revision = 0
    compare = request.compare.add()
    compare.key = POOL
    compare.target = etcdrpc.Compare.MOD
    compare.mod_revision = pool_revision
    for key in (log, endpoint, ip):
        put = request.success.add().request_put
        put.key = key
        put.value = VALUE
    for key in (endpoint, ip, POOL):
        request.failure.add().request_range.key = key
    return request


SendRequest = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def grpc_client(endpoint: str) -> AsyncIterator[tuple[SendRequest, SendRequest]]:
    """Yield functions that send a Put and a Txn by grpc.aio."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        stub = etcdrpc.KVStub(channel)

        async def put(request: Any) -> Any:
            return await stub.Put(request, timeout=DEADLINE_S)

        async def txn(request: Any) -> Any:
            return await stub.Txn(request, timeout=DEADLINE_S)

        yield put, txn


@asynccontextmanager
async def own_client(endpoint: str) -> AsyncIterator[tuple[SendRequest, SendRequest]]:
    """Yield functions that send a Put and a Txn by the agent's HTTP/2 channel."""
    channel = Channel(endpoint, None)
    assert await channel.connect(), channel.failure

    def method(name: str, response_type: Any) -> SendRequest:
        async def call(request: Any) -> Any:
            content = await channel.unary(
                name, request.SerializeToString(), timeout_s=DEADLINE_S, metadata=()
            )
            return response_type.FromString(content)

        return call

    yield (
        method("/etcdserverpb.KV/Put", etcdrpc.PutResponse),
        method("/etcdserverpb.KV/Txn", etcdrpc.TxnResponse),
    )
    channel.close()


CLIENTS = {"grpc": grpc_client, "own": own_client}


async def measure(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the transactions; return the report."""
    async with CLIENTS[parameters["client"]](parameters["endpoint"]) as (put, txn):
        pool_put = await put(etcdrpc.PutRequest(key=POOL, value=VALUE))
        serials = iter(range(parameters["first"], parameters["first"] + parameters["count"]))
        latencies_ms: list[float] = []

        async def caller(remaining: Iterator[int]) -> None:
            for serial in remaining:
                request = transaction(serial, pool_put.header.revision)
                began = time.perf_counter()
                response = await txn(request)
                latencies_ms.append((time.perf_counter() - began) * 1e3)
                assert response.succeeded, f"serial number {serial} was used before"

        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller(serials) for _ in range(parameters["callers"])))
        seconds = time.perf_counter() - started
        cpu_ms = (time.process_time() - cpu) * 1e3 / parameters["count"]
    return {"seconds": seconds, "latencies_ms": latencies_ms, "cpu_ms": cpu_ms}


if __name__ == "__main__":
    parameters = json.load(sys.stdin)
    own_loop = loop_factory() if parameters["client"] == "own" else None
    with asyncio.Runner(loop_factory=own_loop) as runner:
        json.dump(runner.run(measure(parameters)), sys.stdout)
