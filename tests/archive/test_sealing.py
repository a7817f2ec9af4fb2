"""Sealing moves segments out of etcd and changes nothing about what the log says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from core.archive.archiver import (
    DELETED_SEGMENTS_MAX,
    LIVE_EVENTS_MAX,
    LIVE_SEGMENTS_MAX,
    Archiver,
    needs_sealing,
)
from core.archive.chain import CHAIN_START, chained
from core.archive.cursor import read_cursor
from core.archive.replay import open_archive
from core.domain.evolution import Ledger
from core.eventstore.keys import Keys
from core.eventstore.memory import MemoryStore
from tests.archive.living import KEYS, Add, Cluster, Move, Remove, cluster, lives, same
from tests.archive.synthetic import Shape, fill
from tests.support.faulty_store import FaultyStore


@given(st.lists(lives, min_size=1, max_size=4), st.sampled_from([1, 400, 2_000, 1 << 20]))
@settings(max_examples=25)
async def test_a_log_sealed_at_any_points_replays_as_if_it_never_was(
    life: list[list[Move]], file_bytes_max: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with cluster(Path(directory)) as town:
            before: list[object] = []
            for part in life:
                await town.live(part)
                view = await town.view()
                assert view.live is not None
                live = [s async for some in view.live.segments(0, view.revision) for s in some]
                before += [event for segment in live for event in segment.events()]
                await town.seal(file_bytes_max=file_bytes_max)
                assert await town.live_segments() == 0
            assert await town.replayed() == before
            assert same(Ledger().apply_all(await town.replayed()), await town.node.truth())


@given(lives, st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=15)
async def test_replay_between_any_two_positions_is_a_cut_of_the_whole(
    life: list[Move], one: int, other: int
) -> None:
    after, upto = sorted((one, other))
    with tempfile.TemporaryDirectory() as directory:
        async with cluster(Path(directory)) as town:
            await town.live(life)
            await town.seal(20, file_bytes_max=700)
            view = await town.view()
            cut = [event async for batch in view.events(after, upto) for event in batch]
            whole = await town.replayed()
            assert cut == [event for event in whole if after < event.position <= upto]


async def test_segments_up_to_the_named_position_leave_etcd_and_later_ones_stay(
    town: Cluster,
) -> None:
    await town.live([Add("node-a", f"web-{number}", 0) for number in range(3)])
    positions = sorted({event.position for event in await town.replayed()})
    await town.seal(positions[3])
    assert await town.live_segments() == len(positions) - 4
    cursor = (await read_cursor(town.store, KEYS)).cursor
    assert cursor.position == positions[3]


async def test_sealing_a_quiet_log_again_makes_no_file(town: Cluster) -> None:
    assert await town.seal() == 1
    assert await town.seal() == 0
    assert len(town.files.names()) == 3


async def test_sealing_an_empty_cluster_makes_nothing_and_is_fine(tmp_path: Path) -> None:
    town = Cluster(MemoryStore(), tmp_path / "archive")
    assert await town.seal() == 0
    assert town.files.names() == []
    assert await town.replayed() == []


async def test_every_snapshot_is_the_fold_of_the_log_up_to_its_file(town: Cluster) -> None:
    await town.live([Add("node-a", f"web-{number}", 0) for number in range(5)])
    await town.live([Remove("node-b", f"web-{number}", 0) for number in range(3)])
    await town.seal(file_bytes_max=600)
    sealed = (await town.view()).sealed
    assert len(sealed.summaries()) > 2
    for summary in sealed.summaries():
        snapshot = sealed.snapshot(summary.link)
        assert snapshot is not None
        cut = [one for one in await town.replayed() if one.position <= summary.last_position]
        assert same(snapshot.ledger, Ledger().apply_all(cut))
        assert snapshot.ledger.position == summary.last_position


async def test_the_chain_is_that_of_the_log_whatever_the_sizes_of_the_files(tmp_path: Path) -> None:
    chains = set()
    for size in (1, 5_000, 1 << 20):
        store = MemoryStore()
        await fill(store, KEYS, Shape(400, per_segment=3, held=50))
        town = Cluster(store, tmp_path / str(size))
        await town.seal(file_bytes_max=size)
        view = await town.view()
        segments = [one async for batch in view.batches() for one in batch.segments]
        assert view.sealed.cursor.chain == chained(CHAIN_START, segments)
        chains.add(view.sealed.cursor.chain)
    assert len(chains) == 1


async def test_a_lost_snapshot_is_passed_over_and_the_fold_goes_on_from_an_older_one(
    town: Cluster,
) -> None:
    await town.live([Add("node-a", f"web-{number}", 0) for number in range(4)])
    await town.seal(file_bytes_max=600)
    snapshots = sorted(name for name in town.files.names() if name.endswith(".ledger"))
    town.files.remove(snapshots[-1])
    town.files.remove(snapshots[-2])
    await town.live([Remove("node-a", "web-1", 0)])
    await town.seal()
    sealed = (await town.view()).sealed
    newest = sealed.snapshot(sealed.cursor.last)
    assert newest is not None
    assert same(newest.ledger, await town.node.truth())


async def test_sealed_segments_are_deleted_in_bounded_transactions(tmp_path: Path) -> None:
    store = MemoryStore()
    await fill(store, KEYS, Shape(DELETED_SEGMENTS_MAX * 2 + 10, per_segment=1, writers=3))
    counting = FaultyStore(store)
    town = Cluster(counting, tmp_path)
    sealed = await Archiver(counting, KEYS, town.files).seal()
    assert sealed.deleted == sealed.segments == DELETED_SEGMENTS_MAX * 2 + 10
    assert counting.commits == 1 + 3  # the cursor, and the deletions
    assert await town.live_segments() == 0


async def test_the_archive_is_readable_without_its_etcd(town: Cluster) -> None:
    await town.live([Add("node-a", "web-1", 0), Remove("node-a", "web-1", 0)])
    await town.seal(file_bytes_max=600)
    view = open_archive(town.files, KEYS.cluster)
    assert [one async for batch in view.events() for one in batch] == await town.replayed()
    assert view.sealed.cursor == (await read_cursor(town.store, KEYS)).cursor


async def test_two_clusters_in_one_directory_leave_each_other_alone(tmp_path: Path) -> None:
    store = MemoryStore()
    blue = Keys("blue")
    await fill(store, blue, Shape(50, per_segment=2))
    await fill(store, KEYS, Shape(70, per_segment=2))
    town = Cluster(store, tmp_path)
    for _ in range(2):
        await Archiver(store, blue, town.files, file_bytes_max=2_000).seal()
        await town.seal()
    count = 0
    async for batch in open_archive(town.files, "blue").events():
        count += len(batch)
    assert count == 50
    assert len(await town.replayed()) == 70


def test_sealing_is_due_at_the_bound_of_segments_or_of_events() -> None:
    assert not needs_sealing(LIVE_SEGMENTS_MAX - 1, LIVE_EVENTS_MAX - 1)
    assert needs_sealing(LIVE_SEGMENTS_MAX)
    assert needs_sealing(1, LIVE_EVENTS_MAX)


async def test_the_archiver_knows_how_many_segments_are_live(town: Cluster) -> None:
    archiver = Archiver(town.store, KEYS, town.files)
    assert await archiver.live_segments() == await town.live_segments()
    await archiver.seal()
    assert await archiver.live_segments() == 0
