"""Sealing moves segments of the log from etcd to files and does not change their events."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.archive.archiver import (
    DELETED_SEGMENTS_MAX,
    LIVE_EVENTS_MAX,
    LIVE_SEGMENTS_MAX,
    Archiver,
    needs_sealing,
)
from core.archive.cursor import read_cursor
from core.archive.file_format import CHAIN_START, chained
from core.archive.replay import open_log
from core.domain.evolution import Ledger
from core.errors import LogGap
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import (
    TEST_KEYS,
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    action_lists,
    archived_cluster,
    have_same_content,
)
from tests.support.faulty_store import FaultyStore


@given(st.lists(action_lists, min_size=1, max_size=4), st.sampled_from([1, 400, 2_000, 1 << 20]))
@settings(max_examples=25)
async def test_seals_do_not_change_the_events_that_a_replay_returns(
    action_lists_between_seals: list[list[Action]], file_bytes_max: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            before: list[object] = []
            for actions in action_lists_between_seals:
                await cluster.execute(actions)
                view = await cluster.view()
                live = [
                    segment
                    async for batch in view.live.segments(0, view.revision)
                    for segment in batch
                ]
                before += [event for segment in live for event in segment.events()]
                await cluster.seal(file_bytes_max=file_bytes_max)
                assert await cluster.live_segments() == 0
            assert await cluster.replayed() == before
            assert have_same_content(
                Ledger().apply_all(await cluster.replayed()), await cluster.node.read_ledger()
            )


@given(action_lists, st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=15)
async def test_replay_between_two_positions_returns_exactly_the_events_between_them(
    actions: list[Action], first_position: int, second_position: int
) -> None:
    after, upto = sorted((first_position, second_position))
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            await cluster.execute(actions)
            await cluster.seal(20, file_bytes_max=700)
            view = await cluster.view()
            between = [event async for batch in view.events(after, upto) for event in batch]
            replayed = await cluster.replayed()
            assert between == [event for event in replayed if after < event.position <= upto]


async def test_a_seal_deletes_segments_up_to_the_sealed_position_from_etcd(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(3)])
    positions = sorted({event.position for event in await archived_cluster.replayed()})
    await archived_cluster.seal(positions[3])
    assert await archived_cluster.live_segments() == len(positions) - 4
    cursor = (await read_cursor(archived_cluster.store, TEST_KEYS)).cursor
    assert cursor.position == positions[3]


async def test_sealing_a_sealed_log_again_makes_no_file(archived_cluster: ArchivedCluster) -> None:
    assert await archived_cluster.seal() == 1
    assert await archived_cluster.seal() == 0
    assert len(archived_cluster.files.names()) == 3  # segments, index and snapshot


async def test_sealing_an_empty_cluster_makes_no_file(tmp_path: Path) -> None:
    cluster = ArchivedCluster(MemoryStore(), tmp_path / "archive")
    assert await cluster.seal() == 0
    assert cluster.files.names() == []
    assert await cluster.replayed() == []


async def test_every_snapshot_is_the_state_after_the_last_event_of_its_file(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(5)])
    await archived_cluster.execute([CniDel("node-b", f"web-{number}") for number in range(3)])
    await archived_cluster.seal(file_bytes_max=600)
    sealed = (await archived_cluster.view()).sealed
    assert len(sealed.summaries()) > 2
    for summary in sealed.summaries():
        snapshot = sealed.snapshot(summary.link)
        assert snapshot is not None
        until_snapshot = [
            event
            for event in await archived_cluster.replayed()
            if event.position <= summary.last_position
        ]
        assert have_same_content(snapshot.ledger, Ledger().apply_all(until_snapshot))
        assert snapshot.ledger.position == summary.last_position


async def test_the_hash_chain_does_not_depend_on_the_sizes_of_the_files(tmp_path: Path) -> None:
    chains = set()
    for size in (1, 5_000, 1 << 20):
        store = MemoryStore()
        await fill(store, TEST_KEYS, Shape(400, per_segment=3, held=50))
        cluster = ArchivedCluster(store, tmp_path / str(size))
        await cluster.seal(file_bytes_max=size)
        view = await cluster.view()
        segments = [segment async for batch in view.batches() for segment in batch.segments]
        assert view.sealed.cursor.chain == chained(CHAIN_START, segments)
        chains.add(view.sealed.cursor.chain)
    assert len(chains) == 1


async def test_sealing_starts_from_an_older_snapshot_if_the_newest_are_missing(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(4)])
    await archived_cluster.seal(file_bytes_max=600)
    snapshots = sorted(name for name in archived_cluster.files.names() if name.endswith(".ledger"))
    archived_cluster.files.remove(snapshots[-1])
    archived_cluster.files.remove(snapshots[-2])
    await archived_cluster.execute([CniDel("node-a", "web-1")])
    await archived_cluster.seal()
    sealed = (await archived_cluster.view()).sealed
    newest = sealed.snapshot(sealed.cursor.last)
    assert newest is not None
    assert have_same_content(newest.ledger, await archived_cluster.node.read_ledger())


async def test_sealed_segments_are_deleted_in_bounded_transactions(tmp_path: Path) -> None:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(DELETED_SEGMENTS_MAX * 2 + 10, per_segment=1, writers=3))
    counting = FaultyStore(store)
    cluster = ArchivedCluster(counting, tmp_path)
    sealed = await Archiver(counting, TEST_KEYS, cluster.files).seal()
    assert sealed.deleted == sealed.segments == DELETED_SEGMENTS_MAX * 2 + 10
    assert counting.commits == 1 + 3  # one writes the cursor, three delete segments
    assert await cluster.live_segments() == 0


async def test_two_clusters_in_one_directory_keep_separate_archives(tmp_path: Path) -> None:
    store = MemoryStore()
    blue = Keys("blue")
    await fill(store, blue, Shape(50, per_segment=2))
    await fill(store, TEST_KEYS, Shape(70, per_segment=2))
    cluster = ArchivedCluster(store, tmp_path)
    for _ in range(2):
        await Archiver(store, blue, cluster.files, file_bytes_max=2_000).seal()
        await cluster.seal()
    count = 0
    async for batch in (await open_log(store, blue, cluster.files)).events():
        count += len(batch)
    assert count == 50
    assert len(await cluster.replayed()) == 70


def test_sealing_is_due_at_the_bound_of_segments_or_of_events() -> None:
    assert not needs_sealing(LIVE_SEGMENTS_MAX - 1, LIVE_EVENTS_MAX - 1)
    assert needs_sealing(LIVE_SEGMENTS_MAX)
    assert needs_sealing(1, LIVE_EVENTS_MAX)


async def test_the_archiver_counts_the_live_segments(
    archived_cluster: ArchivedCluster,
) -> None:
    archiver = Archiver(archived_cluster.store, TEST_KEYS, archived_cluster.files)
    assert await archiver.live_segments() == await archived_cluster.live_segments()
    await archiver.seal()
    assert await archiver.live_segments() == 0


async def test_a_gap_error_names_the_end_of_the_archive(
    archived_cluster: ArchivedCluster,
) -> None:
    """Files that the same seal wrote before the gap stay in the archive."""
    await archived_cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(3)])
    segment = Get(TEST_KEYS.log("node-a", 2))
    (kv,) = (await archived_cluster.store.read([segment])).ranges[0].kvs
    await archived_cluster.store.commit([], [Put(kv.key, kv.value)])  # gets a later position

    with pytest.raises(LogGap) as error:
        await archived_cluster.seal(file_bytes_max=1)

    cursor = (await read_cursor(archived_cluster.store, TEST_KEYS)).cursor
    assert cursor.files > 0
    assert error.value.message.startswith("writer node-a: expected segment 2, got 3 at")
    assert error.value.message.endswith(f"archive is complete up to position {cursor.position}")
