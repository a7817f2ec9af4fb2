"""Snapshots: the ledger (the state that the log gives) at the end of an archive file.

The file is a zstd frame with the msgpack of ``_StoredSnapshot``. A snapshot is made from the log,
never from the state keys in etcd. The trailer of the archive file has the snapshot's digest.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import zstandard

from core.archive.file_format import CHAIN_START
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger, RevisedClaim
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim
from core.errors import LogCorrupt
from core.eventstore.codec import DECODING_ERRORS
from core.eventstore.unknown_fields import trimmed

SNAPSHOT_VERSION = 1
SNAPSHOT_BYTES_MAX = 4 * 1024**3
"""Limit of the raw bytes: some ten million claims."""

_ZSTD_LEVEL = 3

SNAPSHOT_REMEDY = "restore it from a copy of the archive"


class ArchiveSnapshot(NamedTuple):
    """The state after all events up to ``ledger.position``.

    ``seqs``: writer -> number of its last segment. ``chain``, ``clock_ms``: the hash chain and the
    log's clock at ``ledger.position``.
    """

    ledger: Ledger
    seqs: dict[str, int]
    chain: bytes
    clock_ms: int


def empty_snapshot() -> ArchiveSnapshot:
    """The snapshot before the first segment."""
    return ArchiveSnapshot(Ledger(), seqs={}, chain=CHAIN_START, clock_ms=0)


class _StoredSnapshot(NamedTuple):
    version: int
    position: int
    seqs: dict[str, int]
    chain: bytes
    clock_ms: int
    pools: list[Pool]
    reservations: list[Reservation]
    quarantine: list[Quarantine]
    records: list[RecordDefined]
    endpoints: list[Endpoint]
    claims: list[tuple[str, Claim, int]]
    subnets: tuple[Subnet, ...] = ()
    guids: tuple[tuple[str, GuidClaim], ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredSnapshot)


def encode_snapshot(snapshot: ArchiveSnapshot) -> bytes:
    """The bytes of the file. The same log always gives the same bytes."""
    ledger = snapshot.ledger
    stored = _StoredSnapshot(
        SNAPSHOT_VERSION,
        ledger.position,
        snapshot.seqs,
        snapshot.chain,
        snapshot.clock_ms,
        list(ledger.pools.values()),
        list(ledger.reservations.values()),
        list(ledger.quarantine.values()),
        list(ledger.records.values()),
        list(ledger.endpoints.values()),
        [(address, claim, revision) for address, (claim, revision) in ledger.claims.items()],
        tuple(ledger.subnets.values()),
        tuple(ledger.guids.items()),
    )
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(_encoder.encode(stored))


def decode_snapshot(data: memoryview | bytes, *, name: str) -> ArchiveSnapshot:
    """Decode a snapshot. Raises LogCorrupt with the name of the file."""
    try:
        if not 0 < zstandard.frame_content_size(data) <= SNAPSHOT_BYTES_MAX:
            raise LogCorrupt(
                f"snapshot {name} is empty or larger than {SNAPSHOT_BYTES_MAX} bytes",
                subject=name,
                remedy=SNAPSHOT_REMEDY,
            )
        stored = _decode_stored(zstandard.ZstdDecompressor().decompress(data))
    except (zstandard.ZstdError, *DECODING_ERRORS) as error:
        raise LogCorrupt(
            f"snapshot {name} cannot be decoded: {error}",
            subject=name,
            remedy=SNAPSHOT_REMEDY,
        ) from error
    if stored.version != SNAPSHOT_VERSION:
        raise LogCorrupt(
            f"snapshot {name} has unknown version {stored.version}",
            subject=name,
            remedy=f"use a release that reads version {stored.version}",
        )
    return ArchiveSnapshot(_ledger(stored), stored.seqs, stored.chain, stored.clock_ms)


def _decode_stored(raw: bytes) -> _StoredSnapshot:
    """Ignores fields that a newer release has added at the end."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(
            trimmed(msgspec.msgpack.decode(raw), _StoredSnapshot), _StoredSnapshot
        )


def _ledger(stored: _StoredSnapshot) -> Ledger:
    ledger = Ledger()
    ledger.position = stored.position
    ledger.pools = {pool.name: pool for pool in stored.pools}
    ledger.reservations = {item.name: item for item in stored.reservations}
    ledger.quarantine = {item.address: item for item in stored.quarantine}
    ledger.records = {(item.kind, item.namespace, item.name): item for item in stored.records}
    ledger.endpoints = {endpoint.key: endpoint for endpoint in stored.endpoints}
    ledger.claims = {
        address: RevisedClaim(claim, revision) for address, claim, revision in stored.claims
    }
    ledger.guids = dict(stored.guids)
    ledger.subnets = {subnet.name: subnet for subnet in stored.subnets}
    return ledger
