"""The head of each writer, also if its value cannot be decoded.

A head counts its writer's segments, so that the log replaces one that cannot be decoded: by the
number of the last live segment, or of the last one in the archive (``sealed``). Other writers are
not affected; the head's own writer is fenced and opens again.
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
