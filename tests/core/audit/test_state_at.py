"""A past state equals a replay of the log up to a position or time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.archive.replay import advance_clock
from core.audit.state_at import as_of_position, as_of_time
from core.domain.events import Cause, PoolRetired, Recorded
from core.domain.evolution import Ledger
from core.errors import BadInput
from tests.support.archived_cluster import (
    Action,
    ArchivedCluster,
    CniAdd,
    CniDel,
    action_lists,
    archived_cluster,
    have_same_content,
)


@given(action_lists, action_lists, st.integers(0, 100))
@settings(max_examples=15)
async def test_the_state_as_of_a_position_equals_a_replay_up_to_this_position(
    sealed_actions: list[Action], live_actions: list[Action], percent: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            await cluster.execute(sealed_actions)
            await cluster.seal(file_bytes_max=1_000)
            await cluster.execute(live_actions)
            view = await cluster.view()
            position = view.revision * percent // 100
            past = [event for event in await cluster.replayed() if event.position <= position]
            assert have_same_content(await as_of_position(view, position), Ledger().apply_all(past))


async def test_a_position_outside_the_log_is_refused(
    archived_cluster: ArchivedCluster,
) -> None:
    view = await archived_cluster.view()
    for position in (-1, view.revision + 1):
        with pytest.raises(BadInput, match="the log has no position"):
            await as_of_position(view, position)


def _set_clocks(cluster: ArchivedCluster, now_ms: int) -> None:
    cluster.now_ms = lambda: now_ms


@pytest.mark.parametrize("sealing_hours", [(), (1,), (1, 2, 3)])
async def test_the_state_as_of_a_time_has_all_events_until_that_time(
    archived_cluster: ArchivedCluster, sealing_hours: tuple[int, ...]
) -> None:
    start = (await archived_cluster.replayed())[-1].recorded_at_ms
    # web-1 exists from hour 1 to hour 3, web-2 from hour 2, web-3 from hour 3.
    for hour in (1, 2, 3):
        _set_clocks(archived_cluster, start + hour * 3_600_000)
        await archived_cluster.execute(
            [CniAdd("node-a", f"web-{hour}"), CniDel("node-a", f"web-{hour - 2}")]
        )
        if hour in sealing_hours:
            await archived_cluster.seal()
    for hour, names in ((0, set()), (1, {"web-1"}), (2, {"web-1", "web-2"})):
        for moment in (start + hour * 3_600_000, start + hour * 3_600_000 + 59_999):
            past = await as_of_time(await archived_cluster.view(), moment)
            assert {name for _, name in past.endpoints} == names
    now = await as_of_time(await archived_cluster.view(), start + 3 * 3_600_000)
    assert have_same_content(now, await archived_cluster.node.read_ledger())


async def test_the_state_before_the_first_event_is_empty(archived_cluster: ArchivedCluster) -> None:
    await archived_cluster.seal()
    assert have_same_content(await as_of_time(await archived_cluster.view(), 0), Ledger())


async def test_a_timestamp_from_the_future_has_no_effect_after_the_next_seal(
    archived_cluster: ArchivedCluster,
) -> None:
    """The seal limits the timestamp to the clock of the sealing process."""
    start = (await archived_cluster.replayed())[-1].recorded_at_ms
    _set_clocks(archived_cluster, start + 10**12)
    await archived_cluster.execute([CniAdd("node-a", "web-1")])
    _set_clocks(archived_cluster, start + 1_000)
    await archived_cluster.seal()
    _set_clocks(archived_cluster, start + 60_000)
    await archived_cluster.execute([CniAdd("node-a", "web-2")])
    before_web_2 = await as_of_time(await archived_cluster.view(), start + 59_999)
    assert {name for _, name in before_web_2.endpoints} == {"web-1"}
    with_web_2 = await as_of_time(await archived_cluster.view(), start + 60_000)
    assert {name for _, name in with_web_2.endpoints} == {"web-1", "web-2"}


def test_an_event_sets_the_log_clock_neither_back_nor_past_the_reader_clock() -> None:
    def stamped(at_ms: int) -> Recorded:
        return Recorded(
            position=1,
            index_in_segment=0,
            event_id="id",
            recorded_at_ms=at_ms,
            writer="w",
            cause=Cause("test"),
            event=PoolRetired("main"),
        )

    def advanced(clock_ms: int, event_ms: int) -> int:
        return advance_clock(clock_ms, stamped(event_ms), read_at_ms=200)

    assert advanced(100, event_ms=150) == 150
    assert advanced(100, event_ms=50) == 100
    assert advanced(100, event_ms=10**15) == 200
    assert advanced(300, event_ms=10**15) == 300
