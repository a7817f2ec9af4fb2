"""The log is read in order. A missing segment raises LogGap."""

from __future__ import annotations

import msgpack
import pytest

from core.domain.events import (
    EVENT_TYPES,
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    ApplicationScaled,
    BindingChanged,
    Cause,
    EndpointChanged,
    Event,
    GuidsAssigned,
    GuidsReleased,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    PoolVerdict,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    Release,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
    upcast,
)
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Route, Subnet
from core.domain.patterns.labels import LabelSelector
from core.domain.sriov.model import VfGuid
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import EventDraft, decode_segment, encode_segment
from core.eventstore.kv import Delete, Put
from core.eventstore.log_reader import LOG_START, LogReader
from tests.core.eventstore.writer_harness import WriterHarness

NIC = Nic("eth0", "10.6.0.9/16", "p", "10.6.0.1", routes=(Route("10.0.0.0/8", "10.6.0.1"),))
ENDPOINT = Endpoint("shop", "web-0", "uid", "node-a", "pod/uid", "Pod", "web-0", (NIC,))
GUID = VfGuid(
    "02:00:00:00:00:00:00:01", nic="0000:3b:00.0", nic_guid="10:70:fd:03:00:16:05:48", vf=0
)
SAMPLES: list[Event] = [
    PoolDefined(
        Pool("p", 4, "10.6.0.0/16", ("10.6.0.9",), pod_affinity=LabelSelector({"app": "web"}))
    ),
    PoolRetired("p"),
    PoolDeleted("p"),
    ReservationDefined(Reservation("r", 6, ("fd00::1",))),
    ReservationDeleted("r"),
    AddressQuarantined(Quarantine("10.6.0.9", 4, "a conflicting host", "02:00:00:00:00:01")),
    QuarantineLifted("10.6.0.9", "gone"),
    RecordDefined("Pod", "shop", "web-0", {"app": "web"}),
    RecordDeleted("Pod", "shop", "web-0"),
    AddressesClaimed(
        ENDPOINT, (0,), "namespace", (PoolVerdict("eth0", 4, "q", False, "disabled"),)
    ),
    EndpointChanged(ENDPOINT),
    AddressesReleased(
        "shop", "web-0", (Release("10.6.0.9", "p", "pod/uid", 7),), (), "deleted", "CNI DEL"
    ),
    SubnetDefined(Subnet("s", 4, "10.6.0.0/16", ("10.6.0.9",), (), "10.6.0.1", ())),
    SubnetRetired("s"),
    SubnetDeleted("s"),
    ApplicationScaled("apps/v1", "Deployment", "shop", "web", "uid", 5),
    BindingChanged("shop", "web", "web", "uid", "node-a", ("10.6.0.9",), "failed", "timeout"),
    GuidsAssigned("node-a", (GUID,)),
    GuidsReleased("node-a", (GUID,), "removed"),
    AllocationRefused(
        namespace="shop",
        name="web-1",
        uid="uid-1",
        node="node-a",
        holder="pod/uid-1",
        interface="eth0",
        reason="no-pool",
        message="no",
        remedy="do",
        source="namespace",
        verdicts=(PoolVerdict("eth0", 4, "p", False, "pod-affinity", "no label"),),
        left_out=2,
        times=7,
    ),
]


def test_every_event_type_is_decoded_as_it_was_encoded() -> None:
    drafts = [
        EventDraft(f"w.1.{number}", Cause("a", "b", "c", "d"), event)
        for number, event in enumerate(SAMPLES)
    ]

    data = encode_segment(recorded_at_ms=5, drafts=drafts)
    recorded = decode_segment(data, writer="w", position=9)

    assert {type(event) for event in SAMPLES} == set(EVENT_TYPES.values())
    assert [entry.event for entry in recorded] == SAMPLES
    assert [type(entry.event) for entry in recorded] == [type(event) for event in SAMPLES]
    assert recorded[3].index_in_segment == 3
    assert recorded[0].cause == Cause("a", "b", "c", "d")


def test_missing_fields_of_an_old_event_have_their_defaults() -> None:
    nic = ["eth0", "10.6.0.9/16", "p", "10.6.0.1"]
    body = [["shop", "web-0", "uid", "node-a", "pod/uid", "Pod", "web-0", [nic]], [0]]
    data = msgpack.packb([1, 5, [["w.1.1", "addresses-claimed", 1, ["me", "", "", ""], body]]])

    (event,) = [entry.event for entry in decode_segment(data, writer="w", position=9)]

    assert isinstance(event, AddressesClaimed)
    assert event.endpoint.addresses() == (("10.6.0.9", "p"),)
    assert (event.source, event.passed_over) == ("", ())


def test_a_segment_is_plain_msgpack() -> None:
    drafts = [EventDraft("w.1.1", Cause("me"), PoolRetired("p"))]

    version, recorded_at_ms, events = msgpack.unpackb(encode_segment(5, drafts))

    assert (version, recorded_at_ms) == (1, 5)
    assert events == [["w.1.1", "pool-retired", 1, ["me", "", "", ""], ["p"]]]


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93\x01\x05\x90\x00", b"\x93\x09\x05\x90"])
def test_decoding_bytes_that_are_not_a_segment_raises_log_corrupt(damage: bytes) -> None:
    with pytest.raises(LogCorrupt) as error:
        decode_segment(damage, writer="node-a", position=12)

    assert error.value.subject == "node-a"


def test_an_unknown_event_type_raises_log_corrupt() -> None:
    data = msgpack.packb([1, 5, [["w.1.1", "from-the-future", 1, ["me", "", "", ""], []]]])

    with pytest.raises(LogCorrupt):
        decode_segment(data, writer="w", position=1)


def test_old_bodies_are_upcast_version_by_version() -> None:
    chain = {
        ("pool-retired", 1): lambda body: [*body, "reason unknown"],
        ("pool-retired", 2): lambda body: [body[0], body[1].upper()],
    }

    body = upcast("pool-retired", 1, ["p"], current={"pool-retired": 3}, upcasters=chain)

    assert body == ["p", "REASON UNKNOWN"]


async def test_segments_of_several_writers_are_read_in_revision_order(
    harness: WriterHarness,
) -> None:
    second_writer = harness.new_writer("writer-b")
    await second_writer.open()
    for number in range(3):
        await harness.writer.append(harness.proposal(f"a{number}"))
        await second_writer.append(harness.proposal(f"b{number}", writer=second_writer))

    segments, cursor = await LogReader(harness.memory, harness.keys).catch_up(LOG_START)

    assert [segment.writer[-1] for segment in segments] == list("ababab")
    assert [segment.position for segment in segments] == sorted(
        segment.position for segment in segments
    )
    assert cursor.seqs == {"writer-a": 3, "writer-b": 3}


async def test_catching_up_again_reads_only_new_segments(harness: WriterHarness) -> None:
    reader = LogReader(harness.memory, harness.keys)
    await harness.writer.append(harness.proposal("a"))
    _, cursor = await reader.catch_up(LOG_START)
    await harness.writer.append(harness.proposal("b"))

    segments, _ = await reader.catch_up(cursor)

    assert [segment.seq for segment in segments] == [2]


async def test_follow_yields_every_new_segment(harness: WriterHarness) -> None:
    reader = LogReader(harness.memory, harness.keys)
    _, cursor = await reader.catch_up(LOG_START)
    await harness.writer.append(harness.proposal("a"))
    await harness.writer.append(harness.proposal("b"))

    seqs: list[int] = []
    async for segments, _ in reader.follow(cursor):
        seqs += [segment.seq for segment in segments]
        if len(seqs) == 2:
            break

    assert seqs == [1, 2]


async def test_a_missing_segment_raises_log_gap(harness: WriterHarness) -> None:
    for name in "abc":
        await harness.writer.append(harness.proposal(name))
    await harness.memory.commit([], [Delete(harness.keys.log("writer-a", 2))])

    with pytest.raises(LogGap) as error:
        await LogReader(harness.memory, harness.keys).catch_up(LOG_START)

    assert error.value.subject == "writer-a"
    assert "segment 2 of writer writer-a is missing" in str(error.value)


async def test_reading_live_segments_skips_missing_segments(harness: WriterHarness) -> None:
    for name in "abcd":
        await harness.writer.append(harness.proposal(name))
    await harness.memory.commit(
        [], [Delete(harness.keys.log("writer-a", number)) for number in (1, 3)]
    )

    segments, cursor = await LogReader(harness.memory, harness.keys).live()

    assert [segment.seq for segment in segments] == [2, 4]
    assert cursor.seqs == {"writer-a": 4}


async def test_reading_live_segments_returns_only_the_cursor_if_etcd_has_none(
    harness: WriterHarness,
) -> None:
    await harness.writer.append(harness.proposal("a"))
    await harness.memory.commit([], [Delete(harness.keys.log("writer-a", 1))])

    segments, cursor = await LogReader(harness.memory, harness.keys).live()

    assert segments == []
    assert cursor.seqs == {"writer-a": 1}


async def test_a_malformed_log_key_does_not_change_a_derived_head(
    harness: WriterHarness,
) -> None:
    """A head is derived from the log if its key cannot be decoded."""
    for name in "ab":
        await harness.writer.append(harness.proposal(name))
    malformed = harness.keys.log("writer-a", 1) + b"/x"
    junk_head = Put(harness.keys.head("writer-a"), b"junk")
    await harness.memory.commit([], [Put(malformed, b"x"), junk_head])

    _, heads = await LogReader(harness.memory, harness.keys).heads()
    successor = harness.new_writer("writer-a")
    await successor.open()
    await successor.append(harness.proposal("c", writer=successor))

    assert heads["writer-a"].seq == 2
    _, heads = await LogReader(harness.memory, harness.keys).heads()
    assert heads["writer-a"].seq == 3
