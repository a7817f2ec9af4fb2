"""The log is exported as lines of JSON, or as raw bytes that an import verifies."""

from __future__ import annotations

import io
import json

import msgpack
import pytest

from core.audit.log_export import export_lines, export_raw, line_of, read_raw_export
from core.domain.events import AddressQuarantined, Cause, Recorded
from core.domain.evolution import Ledger
from core.domain.model import ConflictingHost, Quarantine
from core.errors import BadInput, LogCorrupt
from core.eventstore.log_reader import Segment
from tests.support.archived_cluster import (
    TEST_KEYS,
    ArchivedCluster,
    CniAdd,
    CniDel,
    have_same_content,
)


@pytest.fixture
async def half_sealed_cluster(archived_cluster: ArchivedCluster) -> ArchivedCluster:
    await archived_cluster.execute(
        [CniAdd("node-a", "web-0"), CniAdd("node-b", "web-1", of_statefulset=True)]
    )
    await archived_cluster.seal()
    await archived_cluster.execute(
        [CniDel("node-a", "web-0"), CniAdd("node-a", "web-1", generation=1, of_statefulset=True)]
    )
    return archived_cluster


async def _raw(cluster: ArchivedCluster) -> bytes:
    out = io.BytesIO()
    await export_raw(await cluster.view(), TEST_KEYS.cluster, out)
    return out.getvalue()


async def test_each_exported_line_is_one_event_as_json(
    half_sealed_cluster: ArchivedCluster,
) -> None:
    out = io.StringIO()
    count = await export_lines((await half_sealed_cluster.view()).events(), out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    events = await half_sealed_cluster.replayed()
    assert count == len(lines) == len(events)
    assert [line["position"] for line in lines] == [event.position for event in events]
    pool, claim = lines[0], next(line for line in lines if line["type"] == "addresses-claimed")
    assert pool["body"]["pool"]["ips"] == ["10.6.0.1-10.6.0.6"]
    assert claim["body"]["endpoint"]["nics"][0]["ipv4_pool"] == "main"
    assert claim["actor"] == "test"
    assert claim["time"].endswith("Z")
    # An export keeps the original name of ``index_in_segment``, "place".
    assert set(claim) == {
        *("position", "place", "time", "type", "version", "event_id", "writer", "body"),
        *("actor", "correlation_id", "causation_id", "traceparent"),
    }


async def test_importing_a_raw_export_gives_the_same_segments(
    half_sealed_cluster: ArchivedCluster,
) -> None:
    segments = list(read_raw_export(io.BytesIO(await _raw(half_sealed_cluster))))
    view = await half_sealed_cluster.view()
    assert segments == [segment async for batch in view.batches() for segment in batch.segments]


async def test_an_import_without_etcd_replays_to_the_cluster_state(
    half_sealed_cluster: ArchivedCluster,
) -> None:
    ledger = Ledger()
    for segment in read_raw_export(io.BytesIO(await _raw(half_sealed_cluster))):
        ledger.apply_all(segment.events())
    assert have_same_content(ledger, await half_sealed_cluster.node.read_ledger())
    assert have_same_content(ledger, Ledger().apply_all(await half_sealed_cluster.replayed()))


async def test_the_msgpack_library_alone_reads_a_raw_export(
    half_sealed_cluster: ArchivedCluster,
) -> None:
    head, *segments, end = msgpack.Unpacker(io.BytesIO(await _raw(half_sealed_cluster)))
    assert head[:3] == ["orbweaver-log", 1, TEST_KEYS.cluster]
    assert end[0] == len(segments)
    version, at_ms, records = msgpack.unpackb(segments[-1][3])
    assert version == 1
    assert at_ms > 0
    assert records[0][1] == "endpoint-changed"


async def test_a_changed_or_truncated_export_is_refused(
    half_sealed_cluster: ArchivedCluster,
) -> None:
    export = await _raw(half_sealed_cluster)
    changed_exports = [
        export[:index] + bytes([export[index] ^ 1]) + export[index + 1 :]
        for index in (3, 300)  # in the head, in the first segment
    ]
    for content in (
        b"",
        b"\x80",
        b"\xc1",
        export[:-1],
        export[:400],
        export + b"\x01",
        *changed_exports,
    ):
        with pytest.raises((LogCorrupt, BadInput)):
            list(read_raw_export(io.BytesIO(content)))


def test_an_export_without_segments_imports_as_no_segments() -> None:
    head, tail = msgpack.packb(["orbweaver-log", 1, "x", 1]), msgpack.packb([0, bytes(32)])
    assert list[Segment](read_raw_export(io.BytesIO(head + tail))) == []


def test_importing_another_file_format_raises_bad_input() -> None:
    for content in (b"", b'{"position":18}\n', b"\x93\x01\x02\x03"):
        with pytest.raises(BadInput, match="not a raw export"):
            list(read_raw_export(io.BytesIO(content)))


def test_the_error_for_an_unknown_raw_format_names_its_version() -> None:
    head = msgpack.packb(["orbweaver-log", 2, "x", 1, "a new field"])

    with pytest.raises(BadInput, match="unknown format version 2") as error:
        list(read_raw_export(io.BytesIO(head)))

    assert error.value.remedy == "use a release that reads version 2"


def test_an_export_keeps_the_original_name_of_a_renamed_field() -> None:
    quarantine = Quarantine(
        "10.6.0.9",
        4,
        reason="in use",
        evidence="",
        conflicting_host=ConflictingHost(mac="02:00:00:00:00:01"),
    )
    recorded = Recorded(
        position=7,
        index_in_segment=0,
        event_id="w.1.1",
        recorded_at_ms=0,
        writer="w",
        cause=Cause("test"),
        event=AddressQuarantined(quarantine),
    )

    (body,) = json.loads(line_of(recorded))["body"].values()
    # "stranger" was the original name of ``conflicting_host``.
    assert body["stranger"]["mac"] == "02:00:00:00:00:01"
