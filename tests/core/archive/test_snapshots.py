"""While a cluster is upgraded, older controllers read snapshots that newer controllers wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import zstandard

from core.archive.snapshot import ArchiveSnapshot, decode_snapshot, encode_snapshot
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger
from core.errors import LogCorrupt

RECORDS_INDEX = 8
"""The index of ``records`` in the fields of a snapshot."""


def snapshot() -> ArchiveSnapshot:
    ledger = Ledger()
    ledger.records["Pod", "shop", "web-0"] = RecordDefined("Pod", "shop", "web-0")
    return ArchiveSnapshot(ledger, {"node-a": 7}, b"chain", clock_ms=1_000)


def decompressed_fields(stored: bytes) -> list[Any]:
    decoded: list[Any] = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(stored))
    return decoded


def compressed(fields: list[Any]) -> bytes:
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(fields))


def test_fields_of_a_newer_version_are_ignored_when_a_snapshot_is_read() -> None:
    fields = decompressed_fields(encode_snapshot(snapshot()))
    fields[RECORDS_INDEX][0].append(["a field of a newer version"])
    fields.append([])

    decoded = decode_snapshot(compressed(fields), name="one")

    assert decoded.ledger.records == snapshot().ledger.records
    assert (decoded.seqs, decoded.chain, decoded.clock_ms) == ({"node-a": 7}, b"chain", 1_000)


def test_a_field_of_a_wrong_type_raises_log_corrupt() -> None:
    fields = decompressed_fields(encode_snapshot(snapshot()))
    fields[RECORDS_INDEX] = "no list"

    with pytest.raises(LogCorrupt, match="snapshot one cannot be decoded"):
        decode_snapshot(compressed(fields), name="one")
