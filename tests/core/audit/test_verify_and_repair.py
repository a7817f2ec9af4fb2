"""``verify`` detects every key that differs from the log; ``repair`` restores these keys only."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.audit.repair import Repaired, repair
from core.audit.state_check import Unreadable
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
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    POOL_CODEC,
    RESERVATION_CODEC,
    EventDraft,
)
from core.eventstore.group_commit import Proposal
from core.eventstore.kv import Delete, Get, KeyValue, Put, ReadResult, Write
from core.eventstore.memory_store import MemoryStore
from core.eventstore.pool_index import Index
from tests.support.archived_cluster import (
    TEST_KEYS,
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    Configure,
    action_lists,
    archived_cluster,
    orbctl_writer,
)
from tests.support.node_harness import pod, pool

CAUSE = Cause("orbctl/someone")


async def _verify(cluster: ArchivedCluster) -> VerificationReport:
    return await verify(cluster.store, TEST_KEYS, cluster.files)


async def _repair(cluster: ArchivedCluster, report: VerificationReport) -> Repaired:
    async with orbctl_writer(cluster) as writer:
        return await repair(report.plan, cluster.store, TEST_KEYS, writer, CAUSE)


async def _edit(cluster: ArchivedCluster, *writes: Write) -> None:
    """Write keys as ``etcdctl`` does: the log gets no event."""
    assert (await cluster.store.commit([], writes)).succeeded


async def _key(cluster: ArchivedCluster, key: bytes) -> KeyValue | None:
    stored = (await cluster.store.read([Get(key)])).ranges[0].kvs
    return stored[0] if stored else None


async def _state(cluster: ArchivedCluster) -> dict[bytes, tuple[bytes, int]]:
    """State key -> (value, revision)."""
    kinds = ("pool", "reservation", "quarantine", "record", "ip", "endpoint")
    result = await cluster.store.read([Get(*TEST_KEYS.range_of(kind)) for kind in kinds])
    return {
        kv.key: (kv.value, kv.mod_revision) for key_range in result.ranges for kv in key_range.kvs
    }


@pytest.fixture
async def prepared_cluster(archived_cluster: ArchivedCluster) -> ArchivedCluster:
    """A cluster with keys of every kind."""
    await archived_cluster.execute(
        [
            CniAdd("node-a", "web-0"),
            CniAdd("node-b", "web-1", of_statefulset=True),
            Configure(QuarantineAddress("10.6.0.9", reason="another host answered")),
        ]
    )
    await archived_cluster.seal()
    await archived_cluster.execute(
        [
            CniAdd("node-b", "web-2"),
            Configure(ApplyReservation(Reservation("dns", 4, ("10.6.0.8",)))),
            Configure(ApplyRecord(RecordDefined("Node", namespace="", name="node-a"))),
        ]
    )
    return archived_cluster


async def test_a_cluster_without_manual_edits_is_clean(prepared_cluster: ArchivedCluster) -> None:
    report = await _verify(prepared_cluster)
    assert report.is_clean
    assert report.plan == ()
    assert (report.files, report.events) == (1, len(await prepared_cluster.replayed()))
    positions = {recorded.position for recorded in await prepared_cluster.replayed()}
    assert report.segments == len(positions)


@given(st.lists(action_lists, min_size=1, max_size=3))
@settings(max_examples=15)
async def test_verify_finds_no_fault_after_any_sequence_of_regular_changes(
    parts: list[list[Action]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            for part in parts:
                await cluster.execute(part)
                await cluster.seal(file_bytes_max=2_000)
                await cluster.execute(part)
            report = await _verify(cluster)
            assert report.is_clean, report
            assert report.files > 0


UNLOGGED_CLAIM = Claim("main", "pod/unlogged", "shop", "unlogged", event="no-event")
Edit = Callable[[ArchivedCluster], Awaitable[set[bytes]]]
"""Edits one key; returns the keys that the repair may write."""


async def _claim_keys(cluster: ArchivedCluster, name: str) -> list[bytes]:
    endpoint = (await cluster.node.read_ledger()).endpoints["shop", name]
    return [TEST_KEYS.ip_of(address) for address, _ in endpoint.addresses()]


async def _delete_claim(cluster: ArchivedCluster) -> set[bytes]:
    keys = await _claim_keys(cluster, "web-0")
    await _edit(cluster, Delete(keys[0]))
    return {*keys, TEST_KEYS.endpoint("shop", "web-0")}


async def _replace_claim(cluster: ArchivedCluster) -> set[bytes]:
    keys = await _claim_keys(cluster, "web-2")
    await _edit(cluster, Put(keys[1], CLAIM_CODEC.encode(UNLOGGED_CLAIM)))
    return {*keys, TEST_KEYS.endpoint("shop", "web-2")}


async def _rewrite_claim(cluster: ArchivedCluster) -> set[bytes]:
    """Give the key a revision that is not in the log."""
    keys = await _claim_keys(cluster, "web-1")
    stored = await _key(cluster, keys[0])
    assert stored is not None
    await _edit(cluster, Put(keys[0], stored.value))
    return {*keys, TEST_KEYS.endpoint("shop", "web-1")}


async def _add_claim(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.ip_of("10.6.0.7")
    await _edit(cluster, Put(key, CLAIM_CODEC.encode(UNLOGGED_CLAIM)))
    return {key}


async def _add_unreadable_claim(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.ip_of("10.6.0.7")
    await _edit(cluster, Put(key, b"\xc1 what is this"))
    return {key}


async def _delete_endpoint(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.endpoint("shop", "web-0")
    await _edit(cluster, Delete(key))
    return {key}


async def _add_endpoint(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.endpoint("shop", "unlogged")
    endpoint = Endpoint("shop", "unlogged", "u", "n", "pod/u", "Pod", "unlogged")
    await _edit(cluster, Put(key, ENDPOINT_CODEC.encode(endpoint)))
    return {key}


async def _change_pool(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.pool("main")
    await _edit(cluster, Put(key, POOL_CODEC.encode(pool("main", "10.6.0.1-10.6.0.200"))))
    return {key}


async def _delete_pool(cluster: ArchivedCluster) -> set[bytes]:
    await _edit(cluster, Delete(TEST_KEYS.pool("six")))
    return {TEST_KEYS.pool("six")}


async def _add_unreadable_pool(cluster: ArchivedCluster) -> set[bytes]:
    await _edit(cluster, Put(TEST_KEYS.pool("junk"), b""))
    return {TEST_KEYS.pool("junk")}


async def _change_reservation(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.reservation("dns")
    await _edit(cluster, Put(key, RESERVATION_CODEC.encode(Reservation("dns", 4, ips=()))))
    return {key}


async def _delete_quarantine(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.quarantine_of("10.6.0.9")
    await _edit(cluster, Delete(key))
    return {key}


async def _delete_record(cluster: ArchivedCluster) -> set[bytes]:
    key = TEST_KEYS.record("Node", "", "node-a")
    await _edit(cluster, Delete(key))
    return {key}


EDITS: list[Edit] = [
    _delete_claim, _replace_claim, _rewrite_claim, _add_claim, _add_unreadable_claim,
    _delete_endpoint, _add_endpoint, _change_pool, _delete_pool, _add_unreadable_pool,
    _change_reservation, _delete_quarantine, _delete_record,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__.strip("_"))
async def test_a_manual_edit_is_found_and_only_its_keys_are_repaired(
    prepared_cluster: ArchivedCluster, edit: Edit
) -> None:
    expected = await prepared_cluster.node.read_ledger()
    repairable = await edit(prepared_cluster)
    before = await _state(prepared_cluster)
    report = await _verify(prepared_cluster)
    assert not report.is_clean
    assert (report.faults, report.violations) == ((), ())
    assert {difference.key for difference in report.differences} <= repairable
    assert report.difference_count == len(report.differences) == len(report.plan) == 1
    repaired = await _repair(prepared_cluster, report)
    assert repaired == Repaired((report.plan[0].text,), changed_meanwhile=(), manual=())
    after = await _state(prepared_cluster)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed <= repairable
    assert (await _verify(prepared_cluster)).is_clean
    ledger = await prepared_cluster.node.read_ledger()
    assert ledger.endpoints == expected.endpoints
    assert ledger.pools == expected.pools
    assert ledger.claims.keys() == expected.claims.keys()


async def test_one_repair_undoes_all_manual_edits(
    prepared_cluster: ArchivedCluster,
) -> None:
    for edit in EDITS:
        await edit(prepared_cluster)
    report = await _verify(prepared_cluster)
    repaired = await _repair(prepared_cluster, report)
    assert len(repaired.done) == len(report.plan)
    assert (await _verify(prepared_cluster)).is_clean


async def test_a_repaired_claim_has_an_event_and_can_be_released(
    prepared_cluster: ArchivedCluster,
) -> None:
    endpoint = (await prepared_cluster.node.read_ledger()).endpoints["shop", "web-0"]
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _delete_claim(prepared_cluster)
    await _repair(prepared_cluster, await _verify(prepared_cluster))
    repeated_claim = (await prepared_cluster.replayed())[-1]
    assert repeated_claim.cause == CAUSE
    assert repeated_claim.event == AddressesClaimed(endpoint, new_nics=(0,))
    released = await prepared_cluster.node.delete(pod("web-0", uid="web-0-0"))
    assert address in released.addresses
    assert (await _verify(prepared_cluster)).is_clean
    (entry,) = (await read_history(await prepared_cluster.view(), parse_subject(address))).entries
    assert entry.began.position < repeated_claim.position
    assert (entry.reason, entry.pod) == ("deleted", "web-0")


@pytest.mark.parametrize(
    ("edit", "topic"), [(_change_pool, "pools"), (_delete_quarantine, "quarantine")]
)
async def test_the_repair_of_a_key_also_changes_its_guard_key(
    prepared_cluster: ArchivedCluster, edit: Edit, topic: str
) -> None:
    """Every change of a pool or quarantine writes a guard key, so concurrent changes fail."""
    before = await _key(prepared_cluster, TEST_KEYS.guard(topic, 4))
    await edit(prepared_cluster)
    await _repair(prepared_cluster, await _verify(prepared_cluster))
    after = await _key(prepared_cluster, TEST_KEYS.guard(topic, 4))
    assert before is not None
    assert after is not None
    assert after.mod_revision > before.mod_revision
    await prepared_cluster.execute([Configure(ApplyPool(pool("main", "10.6.0.1-10.6.0.5")))])
    assert (await _verify(prepared_cluster)).is_clean


async def test_a_repair_step_whose_key_changed_meanwhile_writes_nothing(
    prepared_cluster: ArchivedCluster,
) -> None:
    await _add_claim(prepared_cluster)
    await _change_pool(prepared_cluster)
    report = await _verify(prepared_cluster)
    await _edit(
        prepared_cluster, Put(TEST_KEYS.pool("main"), POOL_CODEC.encode(pool("main", "10.6.0.3")))
    )
    repaired = await _repair(prepared_cluster, report)
    assert len(repaired.done) == len(repaired.changed_meanwhile) == 1
    assert "pool main" in repaired.changed_meanwhile[0]
    stored = await _key(prepared_cluster, TEST_KEYS.pool("main"))
    assert stored is not None
    assert POOL_CODEC.decode(stored.value).ips == ("10.6.0.3",)
    await _repair(prepared_cluster, await _verify(prepared_cluster))
    assert (await _verify(prepared_cluster)).is_clean


async def test_repair_writes_a_release_that_the_log_lacks(
    prepared_cluster: ArchivedCluster,
) -> None:
    """The DEL wrote no release, because the claim had been deleted manually."""
    endpoint = (await prepared_cluster.node.read_ledger()).endpoints["shop", "web-0"]
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _edit(prepared_cluster, Delete(TEST_KEYS.ip_of(address)))
    await prepared_cluster.execute([CniDel("node-a", "web-0")])
    report = await _verify(prepared_cluster)
    # I4: an event that deletes an endpoint must release its claims.
    assert [violation.rule for violation in report.violations] == ["I4"]
    assert [difference.name for difference in report.differences] == [address]
    repaired = await _repair(prepared_cluster, report)
    assert len(repaired.done) == 1
    event = (await prepared_cluster.replayed())[-1].event
    assert isinstance(event, AddressesReleased)
    assert (event.reason, event.releases[0].address) == ("repair", address)
    after = await _verify(prepared_cluster)
    assert after.differences == ()
    assert after.violations == report.violations  # repair does not change past events
    (entry,) = (await read_history(await prepared_cluster.view(), parse_subject(address))).entries
    assert entry.reason == "repair"


async def test_a_claim_that_contradicts_the_log_is_reported_and_not_repaired(
    prepared_cluster: ArchivedCluster,
) -> None:
    """In the log web-0 holds an address. Its endpoint has none; the claim key names another Pod."""
    endpoint = (await prepared_cluster.node.read_ledger()).endpoints["shop", "web-0"]
    node = prepared_cluster.nodes["node-a"]
    event_without_addresses = EndpointChanged(endpoint._replace(nics=(Nic("eth0"),)))
    write = Put(
        TEST_KEYS.endpoint(*endpoint.key), ENDPOINT_CODEC.encode(event_without_addresses.endpoint)
    )
    draft = EventDraft(node.writer.event_id(), CAUSE, event_without_addresses)
    await node.writer.append(Proposal((draft,), guards=(), writes=(write,)))
    address = endpoint.nics[0].ipv4.partition("/")[0]
    await _edit(prepared_cluster, Put(TEST_KEYS.ip_of(address), CLAIM_CODEC.encode(UNLOGGED_CLAIM)))
    report = await _verify(prepared_cluster)
    assert {violation.rule for violation in report.violations} == {"I4"}
    repaired = await _repair(prepared_cluster, report)
    assert repaired.done == repaired.changed_meanwhile == ()
    assert len(repaired.manual) == 1
    assert address in repaired.manual[0]


async def test_verify_compares_no_state_keys_if_a_live_segment_is_missing(
    prepared_cluster: ArchivedCluster,
) -> None:
    newest = (await prepared_cluster.replayed())[-1]
    first_key, after_last_key = TEST_KEYS.range_of("log")
    kvs = (await prepared_cluster.store.read([Get(first_key, after_last_key)])).ranges[0].kvs
    (newest_key,) = (kv.key for kv in kvs if kv.mod_revision == newest.position)
    await _edit(prepared_cluster, Delete(newest_key))
    report = await _verify(prepared_cluster)
    assert not report.folded, "state keys were compared with an incomplete log"
    assert not report.is_clean
    assert [fault.subject for fault in report.faults] == [newest.writer]
    assert report.differences == ()


async def test_a_difference_is_printed_with_its_key_and_both_values(
    prepared_cluster: ArchivedCluster,
) -> None:
    for edit in EDITS:
        await edit(prepared_cluster)
    report = await _verify(prepared_cluster)
    texts = "\n".join(str(difference) for difference in report.differences)
    assert "ip 10.6.0.7: no event in the log, found" in texts
    assert "endpoint shop/web-0: missing, the log has Endpoint(" in texts
    assert "pool main: found Pool(" in texts
    assert "was written again at revision" in texts
    assert "pool junk: no event in the log, found a value that cannot be decoded (" in texts


async def test_a_report_lists_findings_up_to_its_limit_and_counts_all(
    archived_cluster: ArchivedCluster,
) -> None:
    record_count = FINDINGS_MAX + 5
    for number in range(record_count):
        await _edit(archived_cluster, Put(TEST_KEYS.record("Node", "", f"stray-{number}"), b"x"))
    report = await _verify(archived_cluster)
    assert len(report.differences) == FINDINGS_MAX
    assert report.difference_count == len(report.plan) == record_count
    assert isinstance(report.differences[0].found, Unreadable)


class _CompactingStore(MemoryStore):
    """A store whose next ``compactions`` reads of state keys fail with ``Compacted``."""

    compactions = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        if revision and self.compactions and gets[0].start == TEST_KEYS.range_of("pool")[0]:
            self.compactions -= 1
            # This write makes ``revision`` older than the compaction.
            await self.commit([], [Put(b"/other", b"")])
            await self.compact(self._revision)
        return await super().read(gets, revision=revision)


@pytest.mark.parametrize("compactions", [1, 4])
async def test_verify_reads_again_after_a_compaction_and_is_clean(
    tmp_path: Path, compactions: int
) -> None:
    store = _CompactingStore()
    async with archived_cluster(tmp_path, store) as cluster:
        await cluster.execute([CniAdd("node-a", "web-0")])
        store.compactions = compactions
        report = await _verify(cluster)
        assert store.compactions == 0
        assert report.is_clean
        assert report.events == len(await cluster.replayed())


async def test_verify_is_clean_during_concurrent_changes_and_seals(
    archived_cluster: ArchivedCluster,
) -> None:
    async def work(node: str) -> None:
        for generation in range(15):
            names = [f"web-{node[-1]}{number}" for number in range(3)]
            await archived_cluster.execute(
                [CniAdd(node, name, generation=generation) for name in names]
            )
            await archived_cluster.execute([CniDel(node, names[0], generation=generation)])

    async def verify_and_seal() -> list[VerificationReport]:
        reports = []
        for _ in range(6):
            reports.append(await _verify(archived_cluster))
            await archived_cluster.seal(file_bytes_max=4_000)
        return reports

    reports, *_ = await asyncio.gather(verify_and_seal(), work("node-a"), work("node-b"))
    assert [report for report in reports if not report.is_clean] == []
    last = await _verify(archived_cluster)
    assert last.is_clean
    assert reports[0].events < reports[-1].events <= last.events


async def test_verify_fails_with_compacted_after_too_many_compactions(tmp_path: Path) -> None:
    store = _CompactingStore()
    async with archived_cluster(tmp_path, store) as cluster:
        store.compactions = 1_000
        with pytest.raises(Compacted):
            await _verify(cluster)


async def test_verify_stops_at_an_undecodable_archive_cursor(
    prepared_cluster: ArchivedCluster,
) -> None:
    await _edit(prepared_cluster, Put(TEST_KEYS.meta("archive"), b"junk"))
    report = await _verify(prepared_cluster)
    assert not report.folded
    with pytest.raises(LogCorrupt):
        await prepared_cluster.view()


async def test_a_missing_index_entry_is_a_fault_and_is_rebuilt(
    prepared_cluster: ArchivedCluster,
) -> None:
    index = Index(TEST_KEYS, "pools", 4)
    entries = (await prepared_cluster.store.read([Get(*index.all())])).ranges[0].kvs
    await _edit(prepared_cluster, Delete(entries[0].key))

    report = await _verify(prepared_cluster)
    (fault,) = report.faults
    assert (fault.subject, fault.text) == (
        "index/pools/4",
        "missing keys: 1; keys that belong to no object: 0",
    )
    await _repair(prepared_cluster, report)
    await prepared_cluster.node.apply(pool("more", "10.6.9.1"))

    assert (await _verify(prepared_cluster)).is_clean
    assert await _key(prepared_cluster, entries[0].key)
