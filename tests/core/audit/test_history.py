"""The history of an address, Pod, pool, node or GUID.

The Pod of ``CniAdd("node-a", "web-0", generation=1)`` has the UID ``web-0-1``; the default
generation is 0.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.allocation.guid_registry import GuidRegistry
from core.audit import history_entries
from core.audit.history import read_history
from core.audit.history_entries import (
    History,
    HistoryEntry,
    HistorySubject,
    Stamp,
    parse_subject,
    stamp_of,
)
from core.domain.configuration.commands import (
    ApplyPool,
    DeletePool,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.events import AddressesClaimed, AddressesReleased, Cause, PoolRetired, Recorded
from core.domain.sriov.model import VfGuid
from core.errors import BadInput
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.synthetic import Shape, address_of, fill, pod_of, uid_of
from tests.support.archived_cluster import (
    TEST_KEYS,
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    Configure,
    action_lists,
    archived_cluster,
)
from tests.support.node_harness import pool

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _history_of(cluster: ArchivedCluster, subject: str) -> History:
    return await read_history(await cluster.view(), parse_subject(subject))


async def _address_of(cluster: ArchivedCluster, name: str) -> str:
    endpoint = (await cluster.node.read_ledger()).endpoints["shop", name]
    return endpoint.nics[0].ipv4.partition("/")[0]


async def test_the_history_of_an_address_names_every_holder_in_order(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([Configure(RetirePool("spare"))])
    await archived_cluster.execute([Configure(ApplyPool(pool("main", "10.6.0.1")))])
    await archived_cluster.execute([CniAdd("node-a", "web-0"), CniDel("node-a", "web-0")])
    await archived_cluster.seal()
    await archived_cluster.execute([CniAdd("node-b", "web-1")])
    await archived_cluster.seal()
    await archived_cluster.execute(
        [CniDel("node-b", "web-1"), CniAdd("node-a", "web-2", generation=7)]
    )
    first, second, third = (await _history_of(archived_cluster, "10.6.0.1")).entries
    assert [entry.pod for entry in (first, second, third)] == ["web-0", "web-1", "web-2"]
    assert (second.uid, second.node, second.holder) == ("web-1-0", "node-b", "pod/web-1-0")
    assert (second.reason, second.evidence, second.pool) == ("deleted", "CNI DEL", "main")
    assert first.ended is not None
    assert first.ended.position <= second.began.position
    assert (third.ended, third.reason) == (None, "")


async def test_the_start_of_an_entry_is_the_event_of_the_claim(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0")])
    (recorded,) = [
        recorded
        for recorded in await archived_cluster.replayed()
        if isinstance(recorded.event, AddressesClaimed)
    ]
    await archived_cluster.seal()
    began_stamp = (await _history_of(archived_cluster, "shop/web-0")).entries[0].began
    assert began_stamp.position == recorded.position
    assert began_stamp.at_ms == recorded.recorded_at_ms
    assert began_stamp.event_id == recorded.event_id
    assert (began_stamp.writer, began_stamp.actor, began_stamp.trace_id) == ("node-a", "test", "")


def test_a_stamp_has_the_trace_id_of_the_traceparent() -> None:
    cause = Cause("agent", correlation_id="correlation", causation_id="", traceparent=TRACE)
    stamp = stamp_of(
        Recorded(
            position=4,
            index_in_segment=1,
            event_id="id",
            recorded_at_ms=5,
            writer="w",
            cause=cause,
            event=PoolRetired("main"),
        )
    )
    assert stamp == Stamp(
        position=4,
        index_in_segment=1,
        at_ms=5,
        event_id="id",
        writer="w",
        actor="agent",
        correlation_id="correlation",
        trace_id=TRACE.split("-")[1],
    )


async def test_each_pod_of_a_moved_replica_has_a_history_entry(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0", of_statefulset=True)])
    await archived_cluster.seal()
    await archived_cluster.execute([CniAdd("node-b", "web-0", generation=1, of_statefulset=True)])
    address = await _address_of(archived_cluster, "web-0")
    before, after = (await _history_of(archived_cluster, address)).entries
    assert (before.uid, before.node, before.reason) == ("web-0-0", "node-a", "moved")
    assert (after.uid, after.node, after.ended) == ("web-0-1", "node-b", None)
    assert before.ended == after.began
    assert before.holder == after.holder == "statefulset/shop/web-0"
    entries_of_uid = (await _history_of(archived_cluster, "uid/web-0-1")).entries
    assert {entry.uid for entry in entries_of_uid} == {"web-0-1"}
    assert after in entries_of_uid


async def test_pods_of_the_same_name_are_distinguished_by_their_uid(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0")])
    await archived_cluster.seal()
    await archived_cluster.execute([CniAdd("node-a", "web-0", generation=1)])
    entries_of_name = (await _history_of(archived_cluster, "shop/web-0")).entries
    assert {entry.uid for entry in entries_of_name} == {"web-0-0", "web-0-1"}
    entries_of_old_uid = (await _history_of(archived_cluster, "uid/web-0-0")).entries
    assert {entry.reason for entry in entries_of_old_uid} == {"superseded"}
    assert len(entries_of_old_uid) == 2  # one entry for IPv4, one for IPv6


async def test_the_history_of_a_guid_lists_its_nodes_in_order(
    archived_cluster: ArchivedCluster,
) -> None:
    guid = VfGuid(
        guid="02:00:00:00:00:00:00:01", nic="0000:3b:00.0", nic_guid="10:70:fd:03:00:16:05:48", vf=3
    )
    nodes, store = archived_cluster.nodes, archived_cluster.store
    first, second = (
        GuidRegistry(store, TEST_KEYS, nodes[name].writer, name, Cause(f"agent/{name}"))
        for name in ("node-a", "node-b")
    )
    assert await first.assign([guid]) == []
    await archived_cluster.seal()
    assert await second.assign([guid]) == []
    await second.release([(guid, "removed")])

    entries = (await _history_of(archived_cluster, f"guid/{guid.guid}")).entries

    assert [(entry.node, entry.reason, entry.ended is None) for entry in entries] == [
        ("node-a", "moved", False),
        ("node-b", "removed", False),
    ]
    assert {entry.text for entry in entries} == {"virtual function 3 of 0000:3b:00.0"}
    assert not (await _history_of(archived_cluster, "guid/02:00:00:00:00:00:00:02")).entries


async def test_the_history_of_an_address_includes_its_quarantines(
    archived_cluster: ArchivedCluster,
) -> None:
    quarantine = QuarantineAddress(
        "10.6.0.3", reason="another host answered", evidence="02:00:00:00:00:01"
    )
    await archived_cluster.execute([Configure(quarantine)])
    await archived_cluster.seal()
    await archived_cluster.execute([Configure(LiftQuarantine("10.6.0.3")), Configure(quarantine)])
    lifted_entry, active_entry = (await _history_of(archived_cluster, "10.6.0.3")).entries
    assert (lifted_entry.kind, lifted_entry.reason, lifted_entry.evidence) == (
        "quarantined",
        "another host answered",
        "02:00:00:00:00:01",
    )
    assert lifted_entry.ended is not None
    assert active_entry.ended is None


async def test_the_history_of_a_pool_lists_its_changes(archived_cluster: ArchivedCluster) -> None:
    await archived_cluster.execute(
        [Configure(ApplyPool(pool("spare", "10.6.0.7-10.6.0.8", default=False)))]
    )
    await archived_cluster.seal()
    await archived_cluster.execute([Configure(RetirePool("spare")), Configure(DeletePool("spare"))])
    entries = (await _history_of(archived_cluster, "spare")).entries
    # The fixture defines pool spare with 10.6.0.7-10.6.0.9.
    assert [entry.kind for entry in entries] == ["defined", "changed", "retired", "deleted"]
    assert entries[0].text == "10.6.0.0/16: 10.6.0.7-10.6.0.9"
    assert entries[1].text == "ips: 10.6.0.7-10.6.0.9 -> 10.6.0.7-10.6.0.8"


async def test_an_unknown_subject_has_an_empty_history(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.seal()
    # "use/main" means all claims of addresses of pool main.
    for subject in ("10.6.0.1", "shop/web-0", "uid/x", "pool/none", "use/main"):
        assert await _history_of(archived_cluster, subject) == History(
            parse_subject(subject), entries=()
        )


async def test_a_history_is_complete_if_the_index_files_are_missing(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0"), CniDel("node-a", "web-0")])
    await archived_cluster.seal()
    before = await _history_of(archived_cluster, "shop/web-0")
    for name in archived_cluster.files.names():
        if name.endswith(".index"):
            archived_cluster.files.remove(name)
    assert before.entries
    assert await _history_of(archived_cluster, "shop/web-0") == before


async def test_a_long_history_keeps_its_newest_entries_and_counts_the_dropped_ones(
    archived_cluster: ArchivedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await archived_cluster.execute([CniAdd("node-a", "web-0"), CniDel("node-a", "web-0")])
    complete_history = await _history_of(archived_cluster, "use/main")
    monkeypatch.setattr(history_entries, "ENTRIES_MAX", 2)
    limited_history = await _history_of(archived_cluster, "use/main")
    assert limited_history.entries == complete_history.entries[-2:]
    assert limited_history.dropped == 1


@given(st.lists(action_lists, min_size=1, max_size=3))
@settings(max_examples=15)
async def test_history_across_seals_equals_a_scan_of_every_event(
    action_batches: list[list[Action]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            for batch in action_batches:
                await cluster.execute(batch)
                await cluster.seal(file_bytes_max=1_500)
            await cluster.execute(action_batches[0])
            claims = _claims(await cluster.replayed())
            for address in {address for address, *_ in claims}:
                entries = [
                    entry
                    for entry in (await _history_of(cluster, address)).entries
                    if entry.kind == "held"
                ]
                assert _merged(entries) == [claim for claim in claims if claim[0] == address]


def _claims(events: list[Recorded]) -> list[tuple[str, str, int, int]]:
    """Return each claim's address, holder, position, and position of the release or 0."""
    claims: dict[tuple[str, int], tuple[str, str, int, int]] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, AddressesClaimed):
            for index in event.new_nics:
                for address, _ in event.endpoint.nics[index].addresses():
                    claim = (address, event.endpoint.holder, recorded.position, 0)
                    claims[address, recorded.position] = claim
        elif isinstance(event, AddressesReleased):
            for release in event.releases:
                key = (release.address, release.claim_revision)
                claims[key] = (*claims[key][:3], recorded.position)
    return sorted(claims.values(), key=lambda claim: claim[2])


def _merged(entries: list[HistoryEntry]) -> list[tuple[str, str, int, int]]:
    """Return the claims as ``_claims`` does; the two entries of a moved replica are one claim."""
    merged: list[tuple[str, str, int, int]] = []
    previous_moved = False
    for entry in entries:
        end_position = entry.ended.position if entry.ended else 0
        if previous_moved:
            merged[-1] = (*merged[-1][:3], end_position)
        else:
            merged.append((entry.subject, entry.holder, entry.began.position, end_position))
        previous_moved = entry.reason == "moved"
    return merged


async def test_one_address_of_many_is_found_by_reading_a_few_blocks(tmp_path: Path) -> None:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(20_000, held=3_000))
    cluster = ArchivedCluster(store, tmp_path)
    await cluster.seal()
    view = await cluster.view()
    sealed = view.sealed
    blocks = sum(len(sealed.open(summary.link).trailer.blocks) for summary in sealed.summaries())
    segments = list(sealed.segments_with_any([f"address {address_of(4_000)}"]))
    assert 0 < len(segments) < blocks // 4
    (entry,) = (await read_history(view, HistorySubject("address", address_of(4_000)))).entries
    assert (entry.namespace, entry.pod, entry.uid) == (*pod_of(4_000), uid_of(4_000))


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("10.6.0.17", ("address", "10.6.0.17")),
        ("FD00:0:0::1", ("address", "fd00::1")),
        ("address/::ffff:10.6.0.1", ("address", "10.6.0.1")),
        ("shop/web-0", ("pod", "shop/web-0")),
        ("pod/shop/web-0", ("pod", "shop/web-0")),
        ("pool/shop", ("pool", "shop")),
        ("use/shop", ("use", "shop")),
        ("10.6.0.9/16", ("cidr", "10.6.0.0/16")),
        ("fd00:6::/64", ("cidr", "fd00:6::/64")),
        ("node/n1", ("node", "n1")),
        ("reservation/kept", ("reservation", "kept")),
        ("application/shop/web", ("application", "shop/web")),
        ("record/Node/n1", ("record", "Node/n1")),
        ("record/Pod/shop/web-0", ("record", "Pod/shop/web-0")),
        ("guid/0200:0000:0000:0001", ("guid", "02:00:00:00:00:00:00:01")),
        ("guid/0x0200000000000001", ("guid", "02:00:00:00:00:00:00:01")),
        ("uid/x", ("uid", "x")),
        ("0a1b2c3d-0000-4000-8000-00000000000f", ("uid", "0a1b2c3d-0000-4000-8000-00000000000f")),
        ("v4-pool.a", ("pool", "v4-pool.a")),
    ],
)
def test_every_accepted_form_of_a_subject_is_parsed(text: str, subject: tuple[str, str]) -> None:
    assert parse_subject(text) == subject
    assert parse_subject(text).token == str(parse_subject(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "shop/",
        "/web",
        "a/b/c/d",
        "pod/shop/",
        "address/x",
        "10.20.300.1",
        "10.6.0.0/33",
        "guid/x",
    ],
)
def test_a_malformed_subject_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        parse_subject(text)


async def test_a_replica_that_moves_is_in_the_history_of_both_nodes(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute(
        [
            CniAdd("node-a", "db-0", of_statefulset=True),
            CniAdd("node-b", "db-0", generation=1, of_statefulset=True),
        ]
    )
    address = await _address_of(archived_cluster, "db-0")
    await archived_cluster.seal()

    on_old_node = (await _history_of(archived_cluster, "node/node-a")).entries
    on_new_node = (await _history_of(archived_cluster, "node/node-b")).entries

    assert address in [entry.subject for entry in on_old_node]
    assert [entry.subject for entry in on_old_node] == [entry.subject for entry in on_new_node]
    for before, after in zip(on_old_node, on_new_node, strict=True):
        assert (before.reason, before.ended) == ("moved", after.began)
        assert after.ended is None
