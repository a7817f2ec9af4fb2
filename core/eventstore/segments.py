"""Segments of the log, and the proof that none is missing.

Each writer numbers its segments 1, 2, 3, ...; a number that is not the next one is a gap (LogGap).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import UPGRADE, decode_segment
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import KeyChange, KeyValue

READ_AGAIN: Final = "read the state keys or the archive, then continue from there"
RESTORE: Final = "restore etcd or the archive from a copy; the events of the segment are unknown"


class Segment(NamedTuple):
    """A segment as it is stored; ``data`` undecoded."""

    position: int
    writer: str
    seq: int
    data: bytes

    def events(self) -> list[Recorded]:
        """Its events in order; raises LogCorrupt."""
        return decode_segment(self.data, writer=self.writer, position=self.position)


def segments_in(
    keys: Keys, changes: Iterable[KeyChange | KeyValue], faults: Faults
) -> Iterator[Segment]:
    """The segments among these keys; a key that names no segment goes to ``faults``."""
    for change in changes:
        if not change.value:
            continue
        try:
            writer, seq = keys.check_segment(change.key)
        except ValueError as error:
            name = key_text(keys, change.key)
            fault = LogCorrupt(f"log key {name}: {error}", subject=name, remedy=UPGRADE)
            faults.report("segment", name, fault)
            continue
        yield Segment(change.mod_revision, writer, seq, change.value)


def advance(seqs: dict[str, int], segment: Segment) -> None:
    """Count the segment as its writer's next one. Raises LogGap if it is another."""
    expected = seqs.get(segment.writer, 0) + 1
    if segment.seq != expected:
        raise missing_segment(segment.writer, expected, segment.seq, READ_AGAIN)
    seqs[segment.writer] = segment.seq


def missing_segment(writer: str, expected: int, known: int, remedy: str) -> LogGap:
    """The error of a gap; ``known``: the later segment, or the head, that proves it."""
    proof = f"segment {known} exists" if known != expected else "the writer's head counts it"
    return LogGap(
        f"segment {expected} of writer {writer} is missing, although {proof}",
        subject=writer,
        remedy=remedy,
    )
