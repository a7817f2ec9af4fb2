"""Writes large logs of claims and releases into a store, for benchmarks and tests.

The logs are valid, but the store gets no state keys.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    Cause,
    Event,
    PoolDefined,
    Release,
)
from core.domain.model import Endpoint, Nic, Pool
from core.eventstore.codec import HEAD_CODEC, EventDraft, WriterHead, encode_segment
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore, Put

START_MS = 1_700_000_000_000
BIG_POOL = Pool("big", 4, "10.0.0.0/8", ("10.0.0.1-10.255.255.254",), gateway="10.0.0.1")
ADDRESSES = 2 * 65_536
"""The number of addresses in 10.1.0.0/16 and 10.2.0.0/16."""


class Shape(NamedTuple):
    """The size of a log.

    - ``events``: the number of events.
    - ``per_segment``: the number of events in a segment.
    - ``writers``: the number of writers, which write segments in turn.
    - ``held``: if more claims than this exist, the next event releases the oldest claim.
    """

    events: int
    per_segment: int = 16
    writers: int = 8
    held: int = 20_000


async def fill(store: KeyValueStore, keys: Keys, shape: Shape) -> int:
    """Write the log; return the revision of the last commit."""
    # Only writers of controllers may claim for several nodes.
    writers = [controller_writer(f"jobs-{number:02x}") for number in range(shape.writers)]
    seqs = dict.fromkeys(writers, 0)
    live_claims: deque[tuple[int, int]] = deque()
    serial = event_count = revision = 0
    while event_count < shape.events:
        writer = writers[event_count // shape.per_segment % shape.writers]
        events: list[Event] = [] if event_count else [PoolDefined(BIG_POOL)]
        claimed = []
        while len(events) < min(shape.per_segment, shape.events - event_count):
            if len(live_claims) > shape.held:
                events.append(_release(*live_claims.popleft()))
            else:
                events.append(_claim(serial))
                claimed.append(serial)
                serial += 1
        seqs[writer] += 1
        drafts = [
            EventDraft(f"{writer}.1.{event_count + offset:x}", _cause(event_count), event)
            for offset, event in enumerate(events)
        ]
        result = await store.commit(
            [],
            [
                Put(keys.log(writer, seqs[writer]), encode_segment(START_MS + event_count, drafts)),
                Put(keys.head(writer), HEAD_CODEC.encode(WriterHead(seqs[writer], epoch=1))),
            ],
        )
        revision = result.revision
        live_claims.extend((number, revision) for number in claimed)
        event_count += len(events)
    return revision


def address_of(serial: int) -> str:
    """Return the address of Pod number ``serial``; addresses repeat after ``ADDRESSES`` Pods."""
    value = serial % ADDRESSES
    return f"10.{1 + (value >> 16)}.{value >> 8 & 255}.{value & 255}"


def uid_of(serial: int) -> str:
    return f"0a1b2c3d-0000-4000-8000-{serial:012x}"


def pod_of(serial: int) -> tuple[str, str]:
    """Return namespace and name of Pod number ``serial``."""
    return f"shop-{serial % 7}", f"web-{serial % 911:x}-{serial:x}"


def _claim(serial: int) -> AddressesClaimed:
    namespace, name = pod_of(serial)
    nic = Nic(
        "eth0",
        ipv4=f"{address_of(serial)}/8",
        ipv4_pool=BIG_POOL.name,
        ipv4_gateway=BIG_POOL.gateway,
        container=f"{serial * 0x9E3779B97F4A7C15 % 2**256:064x}",
        network="orbweaver",
        netns=f"/var/run/netns/cni-{serial:x}",
    )
    uid = uid_of(serial)
    holder = f"pod/{uid}"
    owner = f"web-{serial % 911:x}"
    node = f"node-{serial % 50}"
    endpoint = Endpoint(
        namespace,
        name,
        uid,
        node,
        holder=holder,
        owner_kind="ReplicaSet",
        owner_name=owner,
        nics=(nic,),
    )
    return AddressesClaimed(endpoint, new_nics=(0,))


def _release(serial: int, revision: int) -> AddressesReleased:
    release = Release(
        address_of(serial), BIG_POOL.name, holder=f"pod/{uid_of(serial)}", claim_revision=revision
    )
    return AddressesReleased(*pod_of(serial), (release,), (), "deleted", "CNI DEL")


def _cause(number: int) -> Cause:
    return Cause(
        "agent/node",
        correlation_id=f"{number:x}",
        causation_id="",
        traceparent=f"00-{number + 1:032x}-{number + 1:016x}-01",
    )
