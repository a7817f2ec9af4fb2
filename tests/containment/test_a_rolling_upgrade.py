"""A process continues although it cannot read some data of a newer version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.archiver import Archiver
from core.archive.replay import open_log
from core.audit.verify import verify
from core.domain.evolution import Ledger
from core.domain.model import Pool
from core.errors import LogCorrupt
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    HEAD_CODEC,
    POOL_CODEC,
    WriterHead,
    decode_segment,
)
from core.eventstore.kv import Get, Put, Write
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from core.projections import projector as projecting
from core.projections.configuration_view import ConfigurationView
from core.projections.projector import Projector
from tests.support.node_harness import NodeHarness, pod, pool

NEW_WRITER: Final = "Controller.new"
CAUSE: Final = [NEW_WRITER, "", "", ""]
NEW_POOL: Final = pool("b", "10.6.1.1-10.6.1.9")


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("a", "10.6.0.1-10.6.0.99"))
        yield node


async def write_newer_event(
    node: NodeHarness, name: str, version: int, body: list[Any], *writes: Write
) -> None:
    """Write an event of a newer process, and ``writes``, in one transaction."""
    key = node.keys.head(NEW_WRITER)
    head = (await node.store.read([Get(key)])).ranges[0].first
    seq = 1 + (HEAD_CODEC.decode(head.value).seq if head else 0)
    record = [f"{NEW_WRITER}.1.{seq:x}", name, version, CAUSE, body]
    segment = msgpack.packb([1, 1_700_000_000_000, [record]])
    log = Put(node.keys.log(NEW_WRITER, seq), segment)
    result = await node.store.commit(
        [], [log, Put(key, HEAD_CODEC.encode(WriterHead(seq, 1))), *writes]
    )
    assert result.succeeded


def with_unknown_field(value: bytes) -> bytes:
    version, fields = msgpack.unpackb(value)
    return bytes(msgpack.packb([version, [*fields, {"a field": "to come"}]]))


@asynccontextmanager
async def running_projector(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Projector]:
    monkeypatch.setattr(projecting, "REBUILD_PAUSE_S", 0.001)
    projector = Projector(node.store, node.keys)
    running = asyncio.create_task(projector.run())
    await until(projector, lambda: projector.ready)
    yield projector
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def until(projector: Projector, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        await projector.wait_for(condition)


each_unreadable_event: Final = pytest.mark.parametrize(
    ("name", "version", "body"),
    [
        ("pool-painted", 1, ["b", "green"]),
        ("pool-defined", 2, [{"name": "b"}]),
        ("pool-defined", 1, ["no pool at all"]),
    ],
    ids=["an unknown type", "a newer version", "an impossible body"],
)


@each_unreadable_event
async def test_the_projector_reports_an_unreadable_event_and_reads_the_state_keys(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch, name: str, version: int, body: list[Any]
) -> None:
    async with running_projector(node, monkeypatch) as projector:
        pool_write = Put(node.keys.pool("b"), POOL_CODEC.encode(NEW_POOL))
        await write_newer_event(node, name, version, body, pool_write)
        await until(projector, lambda: "b" in projector.projection.tallies)
        await node.add(pod("web-0"))
        await until(projector, lambda: projector.projection.tallies["a"].counts.claimed == 1)
        await write_newer_event(node, name, version, body)
        await node.add(pod("web-1"))
        await until(projector, lambda: projector.projection.tallies["a"].counts.claimed == 2)

        assert projector.ready
        faults = [fault for fault in projector.faults if fault.kind == "segment"]
        assert {fault.key for fault in faults} == {f"log/{NEW_WRITER}/{seq:016x}" for seq in (1, 2)}
        assert "if a newer version wrote it, upgrade this process" in faults[0].remedy


@each_unreadable_event
async def test_the_archiver_seals_the_log_up_to_an_unreadable_event(
    node: NodeHarness, tmp_path: Path, name: str, version: int, body: list[Any]
) -> None:
    files = LocalFiles(tmp_path)
    archiver = Archiver(node.store, node.keys, files)
    await node.add(pod("web-0"))
    await write_newer_event(node, name, version, body)
    await node.add(pod("web-1"))

    # The second call finds no segment to seal.
    for _ in range(2):
        with pytest.raises(LogCorrupt, match=NEW_WRITER):
            await archiver.seal()

    view = await open_log(node.store, node.keys, files)
    assert len(view.sealed.summaries()) == 1
    assert view.sealed.last_state().ledger.claims
    assert view.live.size == 2  # the unreadable segment and the segment of web-1


async def test_verify_names_an_event_of_a_newer_version(node: NodeHarness, tmp_path: Path) -> None:
    await write_newer_event(node, "pool-painted", 1, ["b", "green"])

    report = await verify(node.store, node.keys, LocalFiles(tmp_path))

    assert not report.folded
    assert "event type 'pool-painted' is unknown" in report.faults[0].text
    assert "if a newer version wrote it, upgrade this process" in report.faults[0].remedy


async def test_additional_fields_of_a_pool_and_an_endpoint_are_ignored(
    node: NodeHarness, tmp_path: Path
) -> None:
    added = await node.add(pod("web-0"))
    for key in (node.keys.pool("a"), node.keys.endpoint("shop", "web-0")):
        kv = (await node.store.read([Get(key)])).ranges[0].kvs[0]
        await node.store.commit([], [Put(key, with_unknown_field(kv.value))])

    assert set((await node.read_ledger()).pools) == {"a"}
    assert (await node.add(pod("web-0"))).endpoint == added.endpoint
    new_view = ConfigurationView(node.store, node.keys)
    await new_view.start()
    await new_view.close()
    assert list(new_view.current.pools) == ["a"]
    assert not new_view.current.undecodable
    assert not (await verify(node.store, node.keys, LocalFiles(tmp_path))).differences
    await node.delete(pod("web-0"))


async def test_additional_fields_of_an_event_are_ignored(
    node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_projector(node, monkeypatch) as projector:
        _, fields = msgpack.unpackb(POOL_CODEC.encode(NEW_POOL))
        await write_newer_event(node, "pool-defined", 1, [[*fields, "a field"], "another field"])
        await until(projector, lambda: "b" in projector.projection.tallies)

        assert projector.rebuilds == 1  # only at the start
        assert not len(projector.faults)
        assert projector.projection.ledger.pools["b"] == NEW_POOL


def test_additional_fields_of_a_segment_are_ignored() -> None:
    _, fields = msgpack.unpackb(POOL_CODEC.encode(NEW_POOL))
    record = ["n.1.1", "pool-defined", 1, ["n", "", "", "", "new"], [[*fields, 1], 2], "new"]
    data = msgpack.packb([1, 5, [record], "new"])

    (event,) = decode_segment(data, writer="n", position=7)

    assert (event.event_id, event.cause.actor) == ("n.1.1", "n")
    assert Ledger().apply_all([event]).pools == {"b": NEW_POOL}


async def test_missing_fields_get_the_defaults_unless_they_are_required(
    node: NodeHarness,
) -> None:
    version, fields = msgpack.unpackb(POOL_CODEC.encode(NEW_POOL))
    shorter = msgpack.packb([version, fields[:4]])
    assert POOL_CODEC.decode(shorter) == Pool(NEW_POOL.name, 4, NEW_POOL.subnet, NEW_POOL.ips)
    added = await node.add(pod("web-0"))
    _, endpoint = msgpack.unpackb(ENDPOINT_CODEC.encode(added.endpoint))
    assert ENDPOINT_CODEC.decode(msgpack.packb([1, endpoint[:7]])).nics == ()
    with pytest.raises(LogCorrupt):
        CLAIM_CODEC.decode(msgpack.packb([1, ["a pool alone"]]))


async def test_an_unreadable_head_stops_no_other_writer_and_its_writer_repairs_it(
    node: NodeHarness, tmp_path: Path
) -> None:
    await node.add(pod("web-0"))
    await node.store.commit([], [Put(node.keys.head("node-a"), b"\xff")])
    async with NodeHarness(node.store, "node-b") as other:
        await other.add(pod("web-1"))
        _, heads = await LogReader(node.store, node.keys).heads()
        events_of_node_a = [event for event in await node.log() if event.writer == "node-a"]
        assert heads["node-a"].seq == len(events_of_node_a)
        await Archiver(node.store, node.keys, LocalFiles(tmp_path)).live_segments()

        async with NodeHarness(node.store, "node-a") as reopened:
            await reopened.add(pod("web-2"))
    segments, _ = await LogReader(node.store, node.keys).catch_up(LOG_START)
    ids = [event.event_id for segment in segments for event in segment.events()]
    assert len(set(ids)) == len(ids)
    assert (await verify(node.store, node.keys, LocalFiles(tmp_path))).is_clean
