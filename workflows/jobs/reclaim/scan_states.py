"""Scan states: the observations and the planned releases of one scan, stored in etcd.

A scan state can be larger than a payload of a history. So it is written in parts under its own
lease, and the history has only a ``ScanStateRef``. After the end of the lease, a scan starts
without observations.

    job/reclaim/<state>/sighting/<part>   observations
    job/reclaim/<state>/step/<part>       planned releases (``ReclaimStep``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec
import zstandard

from core.domain.reclaim.evidence import Observation, ObservationSubject
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.eventstore.codec import DECODING_ERRORS, KeyKind
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Put

STEPS_A_PART: Final = 100
"""One activity makes all releases of a part."""

OBSERVATIONS_A_PART: Final = 1_000
OBSERVATIONS_STORED_MAX: Final = 20_000
STEPS_STORED_MAX: Final = 20_000
"""Anything more is not stored; the next scan finds it again."""

PART_BYTES_MAX: Final = 8 * 1024 * 1024
"""Maximum bytes of an uncompressed part."""

T = TypeVar("T")
OBSERVATION: Final = "sighting"
STEP: Final = "step"
Pair = tuple[ObservationSubject, Observation]

_encoder = msgspec.msgpack.Encoder()
_observations = msgspec.msgpack.Decoder(list[Pair])
_steps = msgspec.msgpack.Decoder(list[ReclaimStep])
_raw = msgspec.msgpack.Decoder(list[object])
_UNUSABLE: Final = (zstandard.ZstdError, *DECODING_ERRORS)


class ScanStateRef(NamedTuple):
    """A reference to a scan state. An empty state has lease 0 and is not stored."""

    name: str = ""
    lease: int = 0
    observation_parts: int = 0
    step_parts: int = 0


EMPTY_SCAN_STATE: Final = ScanStateRef()


class ScanStates:
    """Writes and reads scan states. Each write creates a new state."""

    def __init__(self, store: KeyValueStore, keys: Keys, ttl_s: int) -> None:
        self._store = store
        self._prefix = keys.root + b"job/reclaim/"
        self._ttl_s = ttl_s

    async def write(
        self, observations: Mapping[ObservationSubject, Observation], steps: Sequence[ReclaimStep]
    ) -> ScanStateRef:
        """Store observations and releases, up to their limits.

        Raises StoreUnavailable, OutcomeUnknown.
        """
        pairs = list(islice(observations.items(), OBSERVATIONS_STORED_MAX))
        steps = steps[:STEPS_STORED_MAX]
        if not pairs and not steps:
            return EMPTY_SCAN_STATE
        lease = await self._store.grant_lease(self._ttl_s)
        pair_parts = _parts(pairs, OBSERVATIONS_A_PART)
        step_parts = _parts(steps, STEPS_A_PART)
        state = ScanStateRef(f"{lease:016x}", lease, len(pair_parts), len(step_parts))
        for number, part in enumerate(pair_parts):
            await self._put(state, OBSERVATION, number, part)
        for number, steps_part in enumerate(step_parts):
            await self._put(state, STEP, number, steps_part)
        return state

    async def observations(self, state: ScanStateRef) -> dict[ObservationSubject, Observation]:
        """The observations; empty if expired or undecodable. Raises StoreUnavailable."""
        observations: dict[ObservationSubject, Observation] = {}
        for part in range(state.observation_parts):
            data = await self._get(state, OBSERVATION, part)
            if data is None:
                return {}
            try:
                observations.update(_observations.decode(_decompressed(data)))
            except _UNUSABLE:  # another version wrote the state
                return {}
        return observations

    async def steps(self, state: ScanStateRef, part: int) -> list[ReclaimStep] | None:
        """One part of the releases; None if expired or undecodable. Raises StoreUnavailable."""
        data = await self._get(state, STEP, part)
        try:
            return None if data is None else _steps.decode(_decompressed(data))
        except _UNUSABLE:
            return None

    async def drop(self, state: ScanStateRef) -> None:
        """Delete a state. Idempotent."""
        if state.lease:
            await self._store.revoke_lease(state.lease)

    async def _put(
        self, state: ScanStateRef, kind: str, part: int, values: Sequence[object]
    ) -> None:
        data = zstandard.compress(_encoder.encode(values))
        await self._store.commit([], [Put(self._key(state, kind, part), data, state.lease)])

    async def _get(self, state: ScanStateRef, kind: str, part: int) -> bytes | None:
        kvs = (await self._store.read([Get(self._key(state, kind, part))])).ranges[0].kvs
        return kvs[0].value if kvs else None

    def _key(self, state: ScanStateRef, kind: str, part: int) -> bytes:
        return self._prefix + f"{state.name}/{kind}/{part:06d}".encode()


def _decompressed(data: bytes) -> bytes:
    return zstandard.decompress(data, max_output_size=PART_BYTES_MAX)


def _decode_part(data: bytes) -> object:
    """Decode a part of either kind. Raises ValueError."""
    try:
        return _raw.decode(_decompressed(data))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


SCAN_STATES: Final[KeyKind[object]] = KeyKind(
    "reclaim scan state",
    prefix="job/reclaim",
    decode=_decode_part,
    readers=("worker",),
    remedy="etcd deletes the key by itself when its lease ends, and the next scan writes another",
    check_key=lambda keys, key: keys.check_parts(key, count=5),  # job/reclaim/<state>/<kind>/<part>
)


def _parts(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
