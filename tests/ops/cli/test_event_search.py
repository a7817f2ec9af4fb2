"""The part of the archive that ``orbctl events`` searches if no time is given."""

from __future__ import annotations

import pytest

from core.archive.file_format import FileLink
from core.archive.sealed_log import FileSummary
from core.eventstore.log_reader import Segment
from ops.cli.commands.events import readable_events, start_of_search


def archive_files(*events: int) -> list[FileSummary]:
    """Summaries of archive files; ``events`` has the number of events in each file."""
    positions = [sum(events[: number + 1]) for number in range(len(events))]
    link = FileLink("file", b"")
    return [
        FileSummary(
            link,
            number,
            first_position=last_position - count + 1,
            last_position=last_position,
            segments=count,
            events=count,
            clock_ms=0,
            sealed_at_ms=0,
        )
        for number, (count, last_position) in enumerate(zip(events, positions, strict=True))
    ]


@pytest.mark.parametrize(
    ("requested_events", "expected_start"),
    [(0, 60), (1, 30), (30, 30), (31, 10), (50, 10), (51, 0), (99, 0)],
)
def test_a_search_reads_whole_files_until_it_has_enough_events(
    requested_events: int, expected_start: int
) -> None:
    files = archive_files(10, 20, 30)  # the files end at the positions 10, 30 and 60

    start_position, events_before = start_of_search(files, requested_events)

    assert start_position == expected_start
    assert events_before == expected_start  # one event at each position


def test_an_undecodable_segment_has_no_events_and_causes_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    undecodable = Segment(position=7, writer="agent/node-a", seq=3, data=b"\xff")

    assert readable_events(undecodable) == []
    warning = capsys.readouterr().err
    assert "warning: the log at position 7 is left out" in warning
    assert "writer agent/node-a" in warning


def test_the_search_of_an_empty_archive_starts_at_position_0() -> None:
    assert start_of_search([], 5) == (0, 0)
