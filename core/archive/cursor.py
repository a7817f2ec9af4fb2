"""The archive cursor: a key in etcd with the end of the archive and the name of its last file.

Each file names the file before it; files outside this chain are leftovers. A guarded transaction
moves the cursor forward after the new files are durable and before any segment is deleted.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

from core.archive.file_format import CHAIN_START, NO_FILE, FileLink
from core.eventstore.codec import KeyKind, StateCodec, check_counts
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore

SEGMENTS_SUFFIX: Final = ".segments"
INDEX_SUFFIX: Final = ".index"
SNAPSHOT_SUFFIX: Final = ".ledger"
_NAME: Final = re.compile(r"[0-9a-f]{8}-(?P<number>\d{8})-[0-9a-f]{16}-[0-9a-f]{8}(\.|\Z)")
_TOKEN_BYTES: Final = 4
_CLUSTER_DIGITS: Final = 8


class PrunedPart(NamedTuple):
    """The deleted part of the archive: its first ``files`` files, up to ``last``.

    ``chain``, ``snapshot_digest``: the hash chain and the digest of the snapshot at ``position``.
    """

    files: int
    last: FileLink
    position: int
    chain: bytes
    snapshot_digest: bytes


NOTHING_PRUNED: Final = PrunedPart(
    files=0, last=NO_FILE, position=0, chain=CHAIN_START, snapshot_digest=b""
)


class ArchiveCursor(NamedTuple):
    """The sealed part of the log: everything up to ``position``, in ``files`` files up to ``last``.

    ``seqs``: the last sealed seq of each writer. ``chain`` and ``clock_ms``: the hash chain and the
    log's clock at ``position``.
    """

    files: int
    last: FileLink
    position: int
    chain: bytes
    clock_ms: int
    seqs: dict[str, int]
    pruned: PrunedPart = NOTHING_PRUNED


NOTHING_SEALED: Final = ArchiveCursor(
    files=0, last=NO_FILE, position=0, chain=CHAIN_START, clock_ms=0, seqs={}
)
CURSOR_CODEC: Final = StateCodec(
    ArchiveCursor,
    lambda cursor: check_counts(
        files=cursor.files,
        position=cursor.position,
        clock_ms=cursor.clock_ms,
        smallest_seq=min(cursor.seqs.values(), default=0),
    ),
)
CURSOR_KEYS: Final[KeyKind[ArchiveCursor]] = KeyKind(
    name="archive cursor",
    prefix="meta/archive",
    decode=CURSOR_CODEC.decode,
    readers=("controller", "worker", "orbctl"),
    remedy="restore the key from a backup of etcd; until then nothing is sealed and the archived"
    " part of the log cannot be read; the files of the archive are not changed",
)


class StoredCursor(NamedTuple):
    """A cursor as read. ``revision`` 0: etcd has no cursor yet."""

    cursor: ArchiveCursor
    revision: int


def cursor_key(keys: Keys) -> bytes:
    """The key of the cursor."""
    return keys.meta("archive")


async def read_cursor(store: KeyValueStore, keys: Keys, *, revision: int = 0) -> StoredCursor:
    """The cursor as of a revision (0: now). Raises StoreUnavailable, LogCorrupt."""
    result = await store.read([Get(cursor_key(keys))], revision=revision)
    kv = result.ranges[0].first
    if kv is None:
        return StoredCursor(NOTHING_SEALED, revision=0)
    return StoredCursor(CURSOR_KEYS.decode(keys, kv.key, kv.value), kv.mod_revision)


def file_prefix(cluster: str) -> str:
    """The prefix of a cluster's files, so that clusters can share a directory."""
    return f"{sha256(cluster.encode()).hexdigest()[:_CLUSTER_DIGITS]}-"


def new_base(cluster: str, number: int, position: int) -> str:
    """A unique name for a new file: ``<cluster>-<number>-<last position>-<random>``."""
    token = secrets.token_hex(_TOKEN_BYTES)
    return f"{file_prefix(cluster)}{number:08d}-{position:016x}-{token}"


def number_of(name: str) -> int:
    """The file number in a name, with or without a suffix; -1 for other names."""
    match = _NAME.match(name)
    return int(match["number"]) if match else -1
