"""Appends claims to the event store: with the writer's group commit, or one per transaction.

Parameters: ``endpoint`` (of etcd), ``way`` ("writer" or "transactions"), ``callers``, ``count``,
``first`` (Pod number; no number may be used twice).
Report: ``seconds``, ``transactions`` (a number).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import uvloop

from bench.rig.frames import INTERFACE, NAMESPACE, identity
from bench.rig.lab import CLUSTER
from core.domain.events import AddressesClaimed, Cause
from core.domain.model import Endpoint, Nic, pod_holder
from core.eventstore.codec import EventDraft, encode_segment
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.group_commit import Lost, Proposal
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Put, Unchanged
from core.eventstore.writer import Writer, unix_ms

KEYS = Keys(CLUSTER)
VALUE = b"v" * 200
POOL = KEYS.pool("wide")

Append = Callable[[Proposal], Awaitable[None]]


def proposal(serial: int, event_id: str, pool_revision: int) -> Proposal:
    """Return a proposal that claims an address for one Pod."""
    pod = identity(serial)
    endpoint, ip = KEYS.endpoint(NAMESPACE, pod.name), KEYS.ip(4, serial)
    nic = Nic(INTERFACE, "10.0.0.2/10", "wide", "10.0.0.1", network="lan")
    claimed = AddressesClaimed(
        Endpoint(
            NAMESPACE,
            pod.name,
            pod.uid,
            node="n",
            holder=pod_holder(pod.uid),
            owner_kind="Pod",
            owner_name=pod.name,
            nics=(nic,),
        ),
        new_nics=(0,),
    )
    return Proposal(
        (EventDraft(event_id, Cause("bench"), claimed),),
        (Absent(endpoint), Unchanged(POOL, pool_revision), Absent(ip)),
        (Put(endpoint, VALUE), Put(ip, VALUE)),
    )


def through_writer(writer: Writer) -> Append:
    """Return a function that appends claims with the writer's group commit."""

    async def append(claim: Proposal) -> None:
        outcome = await writer.append(claim)
        assert not isinstance(outcome, Lost), "a Pod's number was used before"

    return append


def by_transactions(store: EtcdStore, first: int) -> Append:
    """Return a function that appends each claim in its own transaction."""
    segment_numbers = count(first)  # no run repeats the numbers of an earlier run

    async def append(claim: Proposal) -> None:
        log = Put(
            KEYS.log("unbatched", next(segment_numbers)), encode_segment(unix_ms(), claim.drafts)
        )
        result = await store.commit(claim.guards, (log, *claim.writes))
        assert result.succeeded, "a Pod's number was used before"

    return append


async def measure(parameters: dict[str, Any]) -> dict[str, Any]:
    """Append the claims; return the report."""
    store = EtcdStore(EtcdSettings((parameters["endpoint"],)))
    pool_revision = (await store.commit([], [Put(POOL, VALUE)])).revision
    writer = Writer(store, KEYS, "batched")
    await writer.open()
    first, grouped = parameters["first"], parameters["way"] == "writer"
    append = through_writer(writer) if grouped else by_transactions(store, first)
    # A list, so that all proposals exist before the measurement.
    proposals = iter(
        [
            proposal(serial, writer.event_id(), pool_revision)
            for serial in range(first, first + parameters["count"])
        ]
    )

    async def caller() -> None:
        for claim in proposals:
            await append(claim)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(parameters["callers"])))
    seconds = time.perf_counter() - started
    await writer.close()
    await store.close()
    transactions = writer.transactions if grouped else parameters["count"]
    return {"seconds": seconds, "transactions": transactions}


if __name__ == "__main__":
    json.dump(uvloop.run(measure(json.load(sys.stdin))), sys.stdout)
