"""How much of the archive ``orbctl events`` searches if it is called without a time."""

from __future__ import annotations

import pytest

from core.archive.format import FileLink
from core.archive.sealed_log import FileSummary
from core.eventstore.log import Segment
from ops.cli.commands.events import followed_events, start_of_search


def archived(*events: int) -> list[FileSummary]:
    """Archive files with these numbers of events, one event at each position."""
    positions = [sum(events[: number + 1]) for number in range(len(events))]
    link = FileLink("file", b"")
    return [
        FileSummary(link, number, last_position - count + 1, last_position, count, count, 0, 0)
        for number, (count, last_position) in enumerate(zip(events, positions, strict=True))
    ]


@pytest.mark.parametrize(
    ("wanted", "after", "unread"),
    [(0, 60, 60), (1, 30, 30), (30, 30, 30), (31, 10, 10), (50, 10, 10), (51, 0, 0), (99, 0, 0)],
)
def test_a_search_reads_the_newest_whole_files_that_have_the_wanted_number_of_events(
    wanted: int, after: int, unread: int
) -> None:
    assert start_of_search(archived(10, 20, 30), wanted) == (after, unread)


def test_a_new_segment_that_cannot_be_decoded_is_named_and_has_no_events(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert followed_events(Segment(7, "agent/node-a", 3, b"\xff")) == []
    warning = capsys.readouterr().err
    assert "warning: the log at position 7 is left out" in warning
    assert "writer agent/node-a" in warning


def test_an_empty_archive_has_nothing_before_the_search() -> None:
    assert start_of_search([], 5) == (0, 0)
