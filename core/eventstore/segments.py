"""Segments and heads of writers, and the proof that no segment is missing.

Each writer numbers its segments 1, 2, 3, ...; a number that is not the next one is a gap (LogGap).
The writer's head has the number of the last segment. A head that cannot be decoded is replaced by
the number of the last live segment, or of the last one in the archive (``sealed``). That affects no
other writer; the head's own writer is fenced and opens again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import UPGRADE, WriterHead, decode_segment
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kinds import HEADS, key_text
from core.eventstore.kv import Get, KeyChange, KeyValue, KeyValueStore

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


SEQ_MAX: Final = 2**64 - 1


async def read_heads(
    store: KeyValueStore,
    keys: Keys,
    kvs: Sequence[KeyValue],
    revision: int,
    faults: Faults,
    sealed: Mapping[str, int] | None = None,
) -> dict[str, WriterHead]:
    """Decode the heads among these keys as of a revision. Raises StoreUnavailable, Compacted."""
    heads: dict[str, WriterHead] = {}
    for kv in kvs:
        head = faults.read(HEADS, keys, kv.key, kv.value)
        writer = key_text(keys, kv.key).partition("/")[2]
        if head is None and keys.is_writer(writer):
            head = await head_from_log(store, keys, kv, revision, (sealed or {}).get(writer, 0))
        if head is not None:
            heads[writer] = head
    return heads


async def head_from_log(
    store: KeyValueStore, keys: Keys, kv: KeyValue, revision: int = 0, sealed: int = 0
) -> WriterHead:
    """The head that follows from the writer's segments. Raises StoreUnavailable, Compacted.

    Its epoch is the revision of the key, which is larger than any epoch before.
    """
    writer = key_text(keys, kv.key).partition("/")[2]
    get = Get(keys.log(writer, sealed + 1), keys.log(writer, SEQ_MAX), keys_only=True)
    segments = (await store.read([get], revision=revision)).ranges[0].kvs
    seq = max((keys.check_segment(kv.key)[1] for kv in segments), default=sealed)
    return WriterHead(seq, kv.mod_revision)
