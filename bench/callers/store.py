"""Callers of the event store: through the writer's group commit, or each with its own transaction.

Both use the same client, the same event loop as the agent, the same keys, guards and values: three
compares and 200 B each for event, endpoint and claim. What differs is who makes the transactions.

Order: ``endpoint``, ``way`` ("writer" or "transactions"), ``callers``, ``count``, ``first``.
Report: ``seconds``, ``transactions``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvloop

from bench.rig.frames import INTERFACE, NAMESPACE, identity
from bench.rig.lab import CLUSTER
from core.domain.events import AddressesClaimed, Cause
from core.domain.model import Endpoint, Nic, pod_holder
from core.store.batch import Lost, Proposal
from core.store.codec import Draft, encode_segment
from core.store.etcd import EtcdSettings, EtcdStore
from core.store.keys import Keys
from core.store.kv import Absent, Get, Put, Unchanged
from core.store.writer import Writer, unix_ms

KEYS = Keys(CLUSTER)
VALUE = b"v" * 200
POOL = KEYS.pool("wide")

Append = Callable[[int], Awaitable[None]]


def proposal(serial: int, event_id: str, pool_revision: int) -> Proposal:
    """The claim of one Pod."""
    pod = identity(serial)
    endpoint, ip = KEYS.endpoint(NAMESPACE, pod.name), KEYS.ip(4, serial)
    nic = Nic(INTERFACE, "10.0.0.2/10", "wide", "10.0.0.1", network="lan")
    claimed = AddressesClaimed(
        Endpoint(NAMESPACE, pod.name, pod.uid, "n", pod_holder(pod.uid), "Pod", pod.name, (nic,)),
        (0,),
    )
    return Proposal(
        (Draft(event_id, Cause("bench"), claimed),),
        (Absent(endpoint), Unchanged(POOL, pool_revision), Absent(ip)),
        (Put(endpoint, VALUE), Put(ip, VALUE)),
        (Get(endpoint), Get(POOL), Get(ip)),
    )


def through_writer(writer: Writer, pool_revision: int) -> Append:
    """Group commit."""

    async def append(serial: int) -> None:
        outcome = await writer.append(proposal(serial, writer.event_id(), pool_revision))
        assert not isinstance(outcome, Lost), "the order's numbers were used before"

    return append


def by_transactions(store: EtcdStore, pool_revision: int) -> Append:
    """One transaction a claim."""

    async def append(serial: int) -> None:
        one = proposal(serial, f"bench.1.{serial:x}", pool_revision)
        log = Put(KEYS.log("alone", serial), encode_segment(unix_ms(), one.drafts))
        result = await store.commit(one.guards, (log, *one.writes), one.reads)
        assert result.succeeded, "the order's numbers were used before"

    return append


async def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order."""
    store = EtcdStore(EtcdSettings((order["endpoint"],)))
    pool_revision = (await store.commit([], [Put(POOL, VALUE)])).revision
    writer = Writer(store, KEYS, "together")
    await writer.open()
    grouped = order["way"] == "writer"
    append = (
        through_writer(writer, pool_revision) if grouped else by_transactions(store, pool_revision)
    )
    serials = iter(range(order["first"], order["first"] + order["count"]))

    async def caller(remaining: Iterator[int]) -> None:
        for serial in remaining:
            await append(serial)

    started = time.perf_counter()
    await asyncio.gather(*(caller(serials) for _ in range(order["callers"])))
    seconds = time.perf_counter() - started
    await writer.close()
    await store.close()
    transactions = writer.transactions if grouped else order["count"]
    return {"seconds": seconds, "transactions": transactions}


if __name__ == "__main__":
    json.dump(uvloop.run(measure(json.load(sys.stdin))), sys.stdout)
