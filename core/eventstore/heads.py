"""Where each writer stands, also where its head cannot be read.

A head counts its writer's segments, so the log says the same: of a head that cannot be read, the
number of the last live segment is taken, or that of the last one in the archive (``sealed``). One
head harms no other writer's part of the log then; its own writer is fenced, and opens anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.eventstore.codec import WriterHead
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kinds import HEADS, key_text
from core.eventstore.kv import Get, KeyValue, KeyValueStore

SEQ_MAX: Final = 2**64 - 1


async def read_heads(
    store: KeyValueStore,
    keys: Keys,
    found: Sequence[KeyValue],
    revision: int,
    faults: Faults,
    sealed: Mapping[str, int] | None = None,
) -> dict[str, WriterHead]:
    """The heads among these keys as of a revision. Raises StoreUnavailable, Compacted."""
    heads: dict[str, WriterHead] = {}
    for kv in found:
        head = faults.read(HEADS, keys, kv.key, kv.value)
        writer = key_text(keys, kv.key).partition("/")[2]
        if head is None and keys.is_writer(writer):
            head = await head_from_log(store, keys, kv, revision, (sealed or {}).get(writer, 0))
        if head is not None:
            heads[writer] = head
    return heads


async def head_from_log(
    store: KeyValueStore, keys: Keys, found: KeyValue, revision: int = 0, sealed: int = 0
) -> WriterHead:
    """The head as the writer's segments say. Raises StoreUnavailable, Compacted.

    Its epoch is the revision of the key: larger than any before, since each took a revision.
    """
    writer = key_text(keys, found.key).partition("/")[2]
    get = Get(keys.log(writer, sealed + 1), keys.log(writer, SEQ_MAX), keys_only=True)
    segments = (await store.read([get], revision=revision)).ranges[0].kvs
    seq = max((keys.check_segment(kv.key)[1] for kv in segments), default=sealed)
    return WriterHead(seq, found.mod_revision)
