"""Scan states: the findings of one scan, stored in etcd because a history cannot hold them.

A plan of 10,000 steps has megabytes, a payload 64 KiB. A scan state is written in parts under
its own lease and named by a ``ScanStateRef``. Parts never change, so a readable state is the
written one. When the lease ends the state is gone: the next scan observes its subjects anew,
which takes time and frees nothing. Nothing here decides.

    job/reclaim/<state>/sighting/<part>   the observed subjects, and how often
    job/reclaim/<state>/step/<part>       the releases to make
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import zstandard

from core.domain.reclaim.evidence import Observation, ObservationSubject
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.eventstore.codec import UNREADABLE
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind
from core.eventstore.kv import Get, KeyValueStore, Put

STEPS_A_PART: Final = 100
"""Steps that one activity carries out."""

SIGHTINGS_A_PART: Final = 1_000

SIGHTINGS_KEPT_MAX: Final = 20_000
"""Subjects that the next look knows; others begin anew, after these are dealt with."""

STEPS_KEPT_MAX: Final = 20_000
"""Steps of one book: 200 activities; the next look goes on."""

PART_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of a part that is read, unpacked."""

Pair = tuple[ObservationSubject, Observation]

_encoder = msgspec.msgpack.Encoder()
_sightings = msgspec.msgpack.Decoder(list[Pair])
_steps = msgspec.msgpack.Decoder(list[ReclaimStep])
_raw = msgspec.msgpack.Decoder(list[object])
_UNUSABLE: Final = (zstandard.ZstdError, *UNREADABLE)


class ScanStateRef(NamedTuple):
    """Where a book is. ``lease`` 0: an empty one, of which nothing is stored."""

    name: str = ""
    lease: int = 0
    sighting_parts: int = 0
    step_parts: int = 0


EMPTY: Final = ScanStateRef()


class ScanStates:
    """Writes and reads books; each write makes a new one."""

    def __init__(self, store: KeyValueStore, keys: Keys, ttl_s: int) -> None:
        self._store = store
        self._room = keys.root + b"job/reclaim/"
        self._ttl_s = ttl_s

    async def write(
        self, sightings: Mapping[ObservationSubject, Observation], steps: Sequence[ReclaimStep]
    ) -> ScanStateRef:
        """Keep these, up to the bounds. Raises StoreUnavailable, OutcomeUnknown."""
        seen = list(islice(sightings.items(), SIGHTINGS_KEPT_MAX))
        kept = steps[:STEPS_KEPT_MAX]
        if not seen and not kept:
            return EMPTY
        lease = await self._store.grant_lease(self._ttl_s)
        book = ScanStateRef(
            f"{lease:016x}", lease, _parts(seen, SIGHTINGS_A_PART), _parts(kept, STEPS_A_PART)
        )
        for part in range(book.sighting_parts):
            some = seen[part * SIGHTINGS_A_PART : (part + 1) * SIGHTINGS_A_PART]
            await self._put(book, "sighting", part, some)
        for part in range(book.step_parts):
            await self._put(
                book, "step", part, kept[part * STEPS_A_PART : (part + 1) * STEPS_A_PART]
            )
        return book

    async def sightings(self, book: ScanStateRef) -> dict[ObservationSubject, Observation]:
        """What was seen; nothing of a book that is gone or of another version.

        Raises StoreUnavailable.
        """
        found: dict[ObservationSubject, Observation] = {}
        for part in range(book.sighting_parts):
            data = await self._get(book, "sighting", part)
            if data is None:
                return {}
            try:
                found.update(_sightings.decode(_unpacked(data)))
            except _UNUSABLE:  # of another version, which is as good as gone
                return {}
        return found

    async def steps(self, book: ScanStateRef, part: int) -> list[ReclaimStep] | None:
        """One part of the releases; None of a book that is gone. Raises StoreUnavailable."""
        data = await self._get(book, "step", part)
        try:
            return None if data is None else _steps.decode(_unpacked(data))
        except _UNUSABLE:
            return None

    async def drop(self, book: ScanStateRef) -> None:
        """A book that nobody reads any more; dropping it again is fine."""
        if book.lease:
            await self._store.revoke_lease(book.lease)

    async def _put(
        self, book: ScanStateRef, kind: str, part: int, values: Sequence[object]
    ) -> None:
        data = zstandard.compress(_encoder.encode(values))
        await self._store.commit([], [Put(self._key(book, kind, part), data, book.lease)])

    async def _get(self, book: ScanStateRef, kind: str, part: int) -> bytes | None:
        found = (await self._store.read([Get(self._key(book, kind, part))])).ranges[0].kvs
        return found[0].value if found else None

    def _key(self, book: ScanStateRef, kind: str, part: int) -> bytes:
        return self._room + f"{book.name}/{kind}/{part:06d}".encode()


def _unpacked(data: bytes) -> bytes:
    return zstandard.decompress(data, max_output_size=PART_BYTES_MAX)


def _part(data: bytes) -> object:
    """Either kind of part. Raises ValueError."""
    try:
        return _raw.decode(_unpacked(data))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


BOOKS: Final[KeyKind[object]] = KeyKind(
    *("reclaim book", "job/reclaim", _part, ("worker",)),
    "nothing: it ends with its lease, and the next scan writes another",
    check_key=lambda keys, key: keys.check_parts(key, 5),
)


def _parts(values: Sequence[object], size: int) -> int:
    return -(-len(values) // size)
