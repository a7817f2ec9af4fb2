"""Verify detects every key that differs from the log; repair restores exactly those."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audit.history import history
from core.audit.history_entries import parse_subject
from core.audit.repair import Repaired, repair
from core.audit.state import Unreadable
from core.audit.verify import FINDINGS_MAX, VerificationReport, verify
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    QuarantineAddress,
)
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    Cause,
    EndpointChanged,
    RecordDefined,
)
from core.domain.model import Claim, Endpoint, Nic, Reservation
from core.errors import Compacted, LogCorrupt
from core.eventstore.batch import Proposal
from core.eventstore.codec import CLAIM, ENDPOINT, POOL, RESERVATION, EventDraft
from core.eventstore.index import Index
from core.eventstore.kv import Delete, Get, KeyValue, Put, ReadResult, Write
from core.eventstore.memory import MemoryStore
from core.eventstore.segments import Segment
from tests.support.archived_cluster import (
    KEYS,
    Add,
    ArchivedCluster,
    Configure,
    Move,
    Remove,
    archived_cluster,
    lives,
    orbctl_writer,
)
from tests.support.node_harness import pod, pool

CAUSE = Cause("orbctl/someone")


async def _verify(cluster: ArchivedCluster) -> VerificationReport:
    return await verify(cluster.store, KEYS, cluster.files)


async def _repair(cluster: ArchivedCluster, report: VerificationReport) -> Repaired:
    async with orbctl_writer(cluster) as writer:
        return await repair(report.plan, cluster.store, KEYS, writer, CAUSE)


async def _edit(cluster: ArchivedCluster, *writes: Write) -> None:
    """Manual edits with etcdctl, without events."""
    assert (await cluster.store.commit([], writes)).succeeded


async def _key(cluster: ArchivedCluster, key: bytes) -> KeyValue | None:
    found = (await cluster.store.read([Get(key)])).ranges[0].kvs
    return found[0] if found else None


async def _state(cluster: ArchivedCluster) -> dict[bytes, tuple[bytes, int]]:
    rooms = ("pool", "reservation", "quarantine", "record", "ip", "endpoint")
    result = await cluster.store.read([Get(*KEYS.range_of(room)) for room in rooms])
    return {kv.key: (kv.value, kv.mod_revision) for found in result.ranges for kv in found.kvs}


@pytest.fixture
async def lived(archived_cluster: ArchivedCluster) -> ArchivedCluster:
    """A cluster with keys of every kind; half of the log is sealed."""
    await archived_cluster.live([Add("node-a", "web-0", 0), Add("node-b", "web-1", 0, fixed=True)])
    await archived_cluster.live([Configure(QuarantineAddress("10.6.0.9", "a stranger answered"))])
    await archived_cluster.seal()
    await archived_cluster.live([Add("node-b", "web-2", 0)])
    await archived_cluster.live([Configure(ApplyReservation(Reservation("dns", 4, ("10.6.0.8",))))])
    await archived_cluster.live([Configure(ApplyRecord(RecordDefined("Node", "", "node-a")))])
    return archived_cluster


async def test_a_cluster_that_nobody_has_touched_is_clean(lived: ArchivedCluster) -> None:
    report = await _verify(lived)
    assert report.is_clean
    assert report.plan == ()
    assert (report.files, report.events) == (1, len(await lived.replayed()))
    assert report.segments == len({one.position for one in await lived.replayed()})


@given(st.lists(lives, min_size=1, max_size=3))
@settings(max_examples=15)
async def test_whatever_the_services_do_verify_finds_nothing(life: list[list[Move]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            for part in life:
                await cluster.live(part)
                await cluster.seal(file_bytes_max=2_000)
                await cluster.live(part)
            report = await _verify(cluster)
            assert report.is_clean, report
            assert report.files > 0


STRANGER = Claim("main", "pod/stranger", "shop", "stranger", "no-event")


async def _claim_gone(cluster: ArchivedCluster) -> set[bytes]:
    """Delete the key of one of a NIC's two addresses."""
    endpoint = (await cluster.node.truth()).endpoints["shop", "web-0"]
    keys = [KEYS.ip_of(address) for address, _ in endpoint.addresses()]
    await _edit(cluster, Delete(keys[0]))
    return {*keys, KEYS.endpoint("shop", "web-0")}


async def _claim_of_another(cluster: ArchivedCluster) -> set[bytes]:
    endpoint = (await cluster.node.truth()).endpoints["shop", "web-2"]
    keys = [KEYS.ip_of(address) for address, _ in endpoint.addresses()]
    await _edit(cluster, Put(keys[1], CLAIM.encode(STRANGER)))
    return {*keys, KEYS.endpoint("shop", "web-2")}


async def _claim_written_again(cluster: ArchivedCluster) -> set[bytes]:
    endpoint = (await cluster.node.truth()).endpoints["shop", "web-1"]
    keys = [KEYS.ip_of(address) for address, _ in endpoint.addresses()]
    found = await _key(cluster, keys[0])
    assert found is not None
    await _edit(cluster, Put(keys[0], found.value))
    return {*keys, KEYS.endpoint("shop", "web-1")}


async def _claim_out_of_nowhere(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.ip_of("10.6.0.7")
    await _edit(cluster, Put(key, CLAIM.encode(STRANGER)))
    return {key}


async def _claim_unreadable(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.ip_of("10.6.0.7")
    await _edit(cluster, Put(key, b"\xc1 what is this"))
    return {key}


async def _endpoint_gone(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.endpoint("shop", "web-0")
    await _edit(cluster, Delete(key))
    return {key}


async def _endpoint_out_of_nowhere(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.endpoint("shop", "stranger")
    endpoint = Endpoint("shop", "stranger", "u", "n", "pod/u", "Pod", "stranger")
    await _edit(cluster, Put(key, ENDPOINT.encode(endpoint)))
    return {key}


async def _pool_changed(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.pool("main")
    await _edit(cluster, Put(key, POOL.encode(pool("main", "10.6.0.1-10.6.0.200"))))
    return {key}


async def _pool_gone(cluster: ArchivedCluster) -> set[bytes]:
    await _edit(cluster, Delete(KEYS.pool("six")))
    return {KEYS.pool("six")}


async def _pool_unreadable(cluster: ArchivedCluster) -> set[bytes]:
    await _edit(cluster, Put(KEYS.pool("junk"), b""))
    return {KEYS.pool("junk")}


async def _reservation_changed(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.reservation("dns")
    await _edit(cluster, Put(key, RESERVATION.encode(Reservation("dns", 4, ()))))
    return {key}


async def _quarantine_gone(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.quarantine_of("10.6.0.9")
    await _edit(cluster, Delete(key))
    return {key}


async def _record_gone(cluster: ArchivedCluster) -> set[bytes]:
    key = KEYS.record("Node", "", "node-a")
    await _edit(cluster, Delete(key))
    return {key}


EDITS: list[Callable[[ArchivedCluster], Awaitable[set[bytes]]]] = [
    _claim_gone, _claim_of_another, _claim_written_again, _claim_out_of_nowhere, _claim_unreadable,
    _endpoint_gone, _endpoint_out_of_nowhere, _pool_changed, _pool_gone, _pool_unreadable,
    _reservation_changed, _quarantine_gone, _record_gone,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__.strip("_"))
async def test_a_manual_edit_is_found_and_nothing_but_it_is_repaired(
    lived: ArchivedCluster, edit: Callable[[ArchivedCluster], Awaitable[set[bytes]]]
) -> None:
    expected = await lived.node.truth()
    touchable = await edit(lived)
    before = await _state(lived)
    report = await _verify(lived)
    assert not report.is_clean
    assert (report.faults, report.violations) == ((), ())
    assert {one.key for one in report.differences} <= touchable
    assert report.difference_count == len(report.differences) == len(report.plan) == 1
    repaired = await _repair(lived, report)
    assert repaired == ((report.plan[0].text,), (), ())
    after = await _state(lived)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed <= touchable
    assert (await _verify(lived)).is_clean
    truth = await lived.node.truth()
    assert truth.endpoints == expected.endpoints
    assert truth.pools == expected.pools
    assert truth.claims.keys() == expected.claims.keys()


async def test_all_edits_at_once_are_repaired_in_one_go(lived: ArchivedCluster) -> None:
    for edit in EDITS:
        await edit(lived)
    report = await _verify(lived)
    repaired = await _repair(lived, report)
    assert len(repaired.done) == len(report.plan)
    assert (await _verify(lived)).is_clean


async def test_a_claim_is_restated_as_an_event_and_can_be_released_afterwards(
    lived: ArchivedCluster,
) -> None:
    endpoint = (await lived.node.truth()).endpoints["shop", "web-0"]
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _claim_gone(lived)
    await _repair(lived, await _verify(lived))
    restated = (await lived.replayed())[-1]
    assert restated.cause == CAUSE
    assert restated.event == AddressesClaimed(endpoint, (0,))
    released = await lived.node.delete(pod("web-0", "web-0-0"))
    assert address in released.addresses
    assert (await _verify(lived)).is_clean
    (entry,) = (await history(await lived.view(), parse_subject(address))).entries
    assert entry.began.position < restated.position
    assert (entry.reason, entry.pod) == ("deleted", "web-0")


@pytest.mark.parametrize(
    ("edit", "topic"), [(_pool_changed, "pools"), (_quarantine_gone, "quarantine")]
)
async def test_a_repaired_key_changes_the_guard_that_decisions_on_it_rest_on(
    lived: ArchivedCluster, edit: Callable[[ArchivedCluster], Awaitable[set[bytes]]], topic: str
) -> None:
    before = await _key(lived, KEYS.guard(topic, 4))
    await edit(lived)
    await _repair(lived, await _verify(lived))
    after = await _key(lived, KEYS.guard(topic, 4))
    assert before is not None
    assert after is not None
    assert after.mod_revision > before.mod_revision
    await lived.live([Configure(ApplyPool(pool("main", "10.6.0.1-10.6.0.5")))])
    assert (await _verify(lived)).is_clean


async def test_a_step_that_was_overtaken_writes_nothing(lived: ArchivedCluster) -> None:
    await _claim_out_of_nowhere(lived)
    await _pool_changed(lived)
    report = await _verify(lived)
    await _edit(lived, Put(KEYS.pool("main"), POOL.encode(pool("main", "10.6.0.3"))))
    repaired = await _repair(lived, report)
    assert len(repaired.done) == len(repaired.changed_meanwhile) == 1
    assert "pool main" in repaired.changed_meanwhile[0]
    found = await _key(lived, KEYS.pool("main"))
    assert found is not None
    assert POOL.decode(found.value).ips == ("10.6.0.3",)
    await _repair(lived, await _verify(lived))
    assert (await _verify(lived)).is_clean


async def test_a_release_that_could_not_name_its_claim_is_owed_and_written(
    lived: ArchivedCluster,
) -> None:
    """The key was deleted by hand before the Pod's DEL, so the log has no release."""
    endpoint = (await lived.node.truth()).endpoints["shop", "web-0"]
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _edit(lived, Delete(KEYS.ip_of(address)))
    await lived.live([Remove("node-a", "web-0", 0)])
    report = await _verify(lived)
    assert [one.rule for one in report.violations] == ["I4"]
    assert [one.name for one in report.differences] == [address]
    repaired = await _repair(lived, report)
    assert len(repaired.done) == 1
    event = (await lived.replayed())[-1].event
    assert isinstance(event, AddressesReleased)
    assert (event.reason, event.releases[0].address) == ("repair", address)
    after = await _verify(lived)
    assert after.differences == ()
    assert after.violations == report.violations  # the past is unchanged
    (entry,) = (await history(await lived.view(), parse_subject(address))).entries
    assert entry.reason == "repair"


async def test_what_the_log_contradicts_is_told_and_left_to_people(lived: ArchivedCluster) -> None:
    """The log assigns an address to an endpoint without it, and another Pod holds it."""
    endpoint = (await lived.node.truth()).endpoints["shop", "web-0"]
    node = lived.nodes["node-a"]
    bare = EndpointChanged(endpoint._replace(nics=(Nic("eth0"),)))
    key = KEYS.endpoint("shop", "web-0")
    write = Put(key, ENDPOINT.encode(bare.endpoint))
    draft = EventDraft(node.writer.event_id(), CAUSE, bare)
    await node.writer.append(Proposal((draft,), (), (write,)))
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _edit(lived, Put(KEYS.ip_of(address), CLAIM.encode(STRANGER)))
    report = await _verify(lived)
    assert {one.rule for one in report.violations} == {"I4"}
    repaired = await _repair(lived, report)
    assert repaired.done == repaired.changed_meanwhile == ()
    assert len(repaired.impossible) == 1
    assert address in repaired.impossible[0]


async def test_a_missing_live_segment_is_a_fault_and_the_state_is_compared_with_nothing(
    lived: ArchivedCluster,
) -> None:
    newest = (await lived.replayed())[-1]
    seqs = [one.seq async for one in _segments(lived) if one.writer == newest.writer]
    await _edit(lived, Delete(KEYS.log(newest.writer, max(seqs))))
    report = await _verify(lived)
    assert not report.folded
    assert not report.is_clean
    assert [fault.subject for fault in report.faults] == [newest.writer]
    assert report.differences == ()


async def test_differences_read_as_sentences(lived: ArchivedCluster) -> None:
    for edit in EDITS:
        await edit(lived)
    texts = "\n".join(str(one) for one in (await _verify(lived)).differences)
    assert "ip 10.6.0.7: no event in the log, found" in texts
    assert "endpoint shop/web-0: missing, the log has Endpoint(" in texts
    assert "pool main: found Pool(" in texts
    assert "was written again at revision" in texts
    assert "pool junk: no event in the log, found Unreadable(why=" in texts


async def test_a_report_lists_findings_up_to_its_bound_and_counts_all(
    archived_cluster: ArchivedCluster,
) -> None:
    strays = FINDINGS_MAX + 5
    for number in range(strays):
        key = KEYS.record("Node", "", f"stray-{number}")
        await _edit(archived_cluster, Put(key, b"x"))
    report = await _verify(archived_cluster)
    assert len(report.differences) == FINDINGS_MAX
    assert report.difference_count == len(report.plan) == strays
    assert isinstance(report.differences[0].found, Unreadable)


class _CompactingStore(MemoryStore):
    """A store that compacts and makes changes before each read of the state keys."""

    compactions = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        if revision and self.compactions and gets[0].start == KEYS.range_of("pool")[0]:
            self.compactions -= 1
            await self.commit([], [Put(b"/other", b"")])
            await self.compact(self._revision)
        return await super().read(gets, revision=revision)


@pytest.mark.parametrize("compactions", [1, 4])
async def test_a_compaction_under_verify_costs_a_second_look_and_nothing_else(
    tmp_path: Path, compactions: int
) -> None:
    store = _CompactingStore()
    async with archived_cluster(tmp_path, store) as cluster:
        await cluster.live([Add("node-a", "web-0", 0)])
        store.compactions = compactions
        report = await _verify(cluster)
        assert store.compactions == 0
        assert report.is_clean
        assert report.events == len(await cluster.replayed())


async def test_verify_is_clean_at_any_moment_of_a_cluster_at_work(
    archived_cluster: ArchivedCluster,
) -> None:
    async def work(node: str) -> None:
        for generation in range(15):
            names = [f"web-{node[-1]}{number}" for number in range(3)]
            await archived_cluster.live([Add(node, name, generation) for name in names])
            await archived_cluster.live([Remove(node, names[0], generation)])

    async def look() -> list[VerificationReport]:
        reports = []
        for _ in range(6):
            reports.append(await _verify(archived_cluster))
            await archived_cluster.seal(file_bytes_max=4_000)
        return reports

    reports, *_ = await asyncio.gather(look(), work("node-a"), work("node-b"))
    assert [report for report in reports if not report.is_clean] == []
    last = await _verify(archived_cluster)
    assert last.is_clean
    assert reports[0].events < reports[-1].events <= last.events


async def test_compactions_without_end_are_told(tmp_path: Path) -> None:
    store = _CompactingStore()
    async with archived_cluster(tmp_path, store) as cluster:
        store.compactions = 1_000
        with pytest.raises(Compacted):
            await _verify(cluster)


async def test_a_cursor_that_cannot_be_read_is_a_fault(lived: ArchivedCluster) -> None:
    await _edit(lived, Put(KEYS.meta("archive"), b"junk"))
    report = await _verify(lived)
    assert not report.folded
    with pytest.raises(LogCorrupt):
        await lived.view()


async def _segments(cluster: ArchivedCluster) -> AsyncIterator[Segment]:
    async for batch in (await cluster.view()).batches():
        for segment in batch.segments:
            yield segment


async def test_an_index_that_lacks_an_entry_is_a_fault_and_is_built_anew(
    lived: ArchivedCluster,
) -> None:
    index = Index(KEYS, "pools", 4)
    entries = (await lived.store.read([Get(*index.all())])).ranges[0].kvs
    await _edit(lived, Delete(entries[0].key))

    report = await _verify(lived)
    (fault,) = report.faults
    assert (fault.subject, fault.text) == (
        "index/pools/4",
        "1 keys are missing, and 0 keys belong to no object",
    )
    await _repair(lived, report)
    await lived.node.apply(pool("more", "10.6.9.1"))

    assert (await _verify(lived)).is_clean
    assert await _key(lived, entries[0].key)
