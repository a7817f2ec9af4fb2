"""The registry of stored values that are skipped: they cannot be decoded, or exceed a limit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from core.errors import OrbweaverError

FAULTS_MAX: Final = 1_000
"""Further faults are only counted, by their keys."""

LIMIT: Final = "limit"

_log: Final = logging.getLogger(__name__)


class ContainedFault(NamedTuple):
    """A stored value that cannot be decoded, or a reached limit."""

    kind: str
    key: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why} ({self.remedy})"


class Faults:
    """The contained faults of one process.

    ``unnamed``: key -> kind of the faults beyond ``FAULTS_MAX``. ``logged``: whether to log each
    new fault.
    """

    def __init__(self, *, logged: bool = True) -> None:
        self._level = logging.ERROR if logged else logging.NOTSET
        self.by_key: dict[str, ContainedFault] = {}
        self.unnamed: dict[str, str] = {}

    def __iter__(self) -> Iterator[ContainedFault]:
        return iter(tuple(self.by_key.values()))

    def __len__(self) -> int:
        return len(self.by_key)

    def by_kind(self) -> Mapping[str, int]:
        """The number of faults of each kind."""
        counts = Counter(fault.kind for fault in self.by_key.values())
        if self.unnamed:
            counts["unnamed"] += len(self.unnamed)
        return counts

    def report(self, kind: str, key: str, error: OrbweaverError) -> ContainedFault:
        """Add the fault; log it if it is new or has changed."""
        return self._keep(ContainedFault(kind, key, error.message, error.remedy))

    def reach_limit(self, name: str, why: str, remedy: str) -> None:
        """Report that objects are skipped because of a limit. ``name``: the limit's constant."""
        self._keep(ContainedFault(LIMIT, f"{LIMIT}/{name}", f"{why} ({name})", remedy))

    def clear_limit(self, name: str) -> None:
        """Remove the fault of a limit."""
        self.clear(f"{LIMIT}/{name}")

    def clear(self, key: str) -> None:
        """Remove the fault of a key that was decoded or deleted."""
        self.by_key.pop(key, None)
        self.unnamed.pop(key, None)

    def clear_kinds(self, *kinds: str) -> None:
        """Remove all faults of these kinds. Call it before a read of all their keys."""
        keys = [key for key, fault in self.by_key.items() if fault.kind in kinds]
        keys += [key for key, kind in self.unnamed.items() if kind in kinds]
        for key in keys:
            self.clear(key)

    def _keep(self, fault: ContainedFault) -> ContainedFault:
        kind, key, *_ = fault
        if self.by_key.get(key) == fault:
            return fault
        if key not in self.by_key and len(self.by_key) >= FAULTS_MAX:
            if not self.unnamed:
                _log.log(
                    self._level,
                    "more than %d stored objects cannot be decoded; further ones are only counted",
                    FAULTS_MAX,
                )
            self.unnamed[key] = kind
            return fault
        self.unnamed.pop(key, None)
        self.by_key[key] = fault
        fields = {"kind": kind, "key": key}
        _log.log(self._level, "skipped an object: %s", fault, extra={"fields": fields})
        return fault
