"""The hash chain over segments: it detects a changed, missing, added or reordered segment.

The chain runs over the log itself and not over files: re-sealing the same log into files of other
sizes gives the same hashes, and the live log continues where the archive ends. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct
from typing import Final

from core.eventstore.segments import Segment

CHAIN_START: Final = bytes(32)
"""The hash before the first segment of a log."""

_PLACE: Final = Struct(">QQH")


def chained(previous: bytes, segments: Iterable[Segment]) -> bytes:
    """The hash after these segments.

    One step is ``sha256(previous + position + seq + length of writer + writer + data)``: position
    and seq as 8 bytes, the length as 2, big-endian; so no two segments read alike.
    """
    for position, writer, seq, data in segments:
        name = writer.encode()
        place = _PLACE.pack(position, seq, len(name))
        previous = sha256(b"".join((previous, place, name, data))).digest()
    return previous
