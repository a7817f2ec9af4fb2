"""Contained faults: what could not be read, by key, while everything else goes on.

Every reader of stored values reports here what it had to leave out; metrics, health and commands
show it. One registry for a process. A fault goes when its key is read well again, or is gone.
Bounded: what does not fit is counted. It decides nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from core.errors import OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind, key_text

T = TypeVar("T")

FAULTS_MAX: Final = 1_000
"""Faults that one process names; of more it knows only how many there were."""

LIMIT: Final = "limit"
"""The kind of a fault that is a bound which was reached."""

_log: Final = logging.getLogger(__name__)


class ContainedFault(NamedTuple):
    """One object that cannot be read: its kind and key, why, and what to do."""

    kind: str
    key: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why} ({self.remedy})"


class Faults:
    """The contained faults of one process. ``unnamed``: how many found no room.

    ``logged`` False: for a reader whose caller says itself what is left out.
    """

    def __init__(self, *, logged: bool = True) -> None:
        self._level = logging.ERROR if logged else logging.NOTSET
        self._faults: dict[str, ContainedFault] = {}
        self.unnamed = 0

    def __iter__(self) -> Iterator[ContainedFault]:
        return iter(tuple(self._faults.values()))

    def __len__(self) -> int:
        return len(self._faults)

    def get(self, key: str) -> ContainedFault | None:
        """The fault of a key, if there is one."""
        return self._faults.get(key)

    def by_kind(self) -> Mapping[str, int]:
        """How many there are of each kind; kinds without any are not in it."""
        counts = Counter(fault.kind for fault in self._faults.values())
        if self.unnamed:
            counts["unnamed"] += self.unnamed
        return counts

    def report(self, kind: str, key: str, error: OrbweaverError) -> ContainedFault:
        """Keep the fault, and log it when it is new or another one than before."""
        return self._keep(ContainedFault(kind, key, error.message, error.remedy))

    def reach_limit(self, name: str, why: str, remedy: str) -> None:
        """A bound was reached, and something is left out for it; ``name`` is the constant's."""
        self._keep(ContainedFault(LIMIT, f"{LIMIT}/{name}", f"{why} ({name})", remedy))

    def keep_within(self, name: str) -> None:
        """The bound is not reached any more."""
        self.clear(f"{LIMIT}/{name}")

    def clear(self, key: str) -> None:
        """The key can be read, or is gone."""
        self._faults.pop(key, None)

    def clear_kinds(self, *kinds: str) -> None:
        """Everything of these kinds is about to be read anew."""
        gone = [key for key, fault in self._faults.items() if fault.kind in kinds]
        for key in gone:
            del self._faults[key]

    def read(self, kind: KeyKind[T], keys: Keys, key: bytes, value: bytes) -> T | None:
        """What the key says; None after reporting that it cannot be read."""
        try:
            found = kind.decode(keys, key, value)
        except OrbweaverError as error:
            self.report(kind.name, key_text(keys, key), error)
            return None
        if self._faults:
            self.clear(key_text(keys, key))
        return found

    def _keep(self, fault: ContainedFault) -> ContainedFault:
        kind, key, *_ = fault
        if self._faults.get(key) == fault:
            return fault
        if key not in self._faults and len(self._faults) >= FAULTS_MAX:
            if not self.unnamed:
                _log.log(self._level, "more than %d objects cannot be read", FAULTS_MAX)
            self.unnamed += 1
            return fault
        self._faults[key] = fault
        fields = {"kind": kind, "key": key}
        _log.log(self._level, "left out: %s", fault, extra={"fields": fields})
        return fault
