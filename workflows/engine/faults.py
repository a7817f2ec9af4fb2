"""Stored values that this worker cannot use: which ones, why, and what to do about each.

A fault belongs to one key. The object of that key is left alone, everything else goes on, and after
``LOOK_AGAIN_S`` the key is read again. The list is bounded; what does not fit is counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from core.errors import LogCorrupt

LOOK_AGAIN_S = 60.0
"""Between two reads of a value that could not be used."""

FAULTS_MAX = 1_000
"""Faults that one worker lists; further ones are logged and counted."""

UNREADABLE = (LogCorrupt, ValueError, RecursionError)
"""What a decoder raises: bytes that do not fit, text that is no UTF-8, values too deeply nested."""

NEWER_OR_DELETE = (
    "run a version that knows this value, or delete the key if nothing of it is needed any more"
)
_log = logging.getLogger(__name__)


class Fault(NamedTuple):
    """One value that cannot be used. ``shard`` -1: it belongs to no shard."""

    kind: str
    key: str
    why: str
    remedy: str
    shard: int = -1


class NotUsable(LogCorrupt):
    """A stored value cannot be used by this worker; its object is left alone."""

    def __init__(self, kind: str, key: bytes, why: object, remedy: str = NEWER_OR_DELETE) -> None:
        name = key.decode(errors="backslashreplace")
        super().__init__(f"{kind} {name} cannot be used: {why}", subject=name, remedy=remedy)
        self.kind = kind
        self.key = key
        self.why = str(why)


class Faults:
    """The faults of one worker, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Fault] = {}
        self.unlisted = 0

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)

    def note(self, kind: str, key: bytes, why: object, remedy: str, *, shard: int = -1) -> None:
        """List a fault; it is logged when it is new."""
        name = key.decode(errors="backslashreplace")
        fault = Fault(kind, name, str(why), remedy, shard)
        if self._by_key.get(name) == fault:
            return
        _log.error("%s %s cannot be used: %s. %s", kind, name, why, remedy)
        if name in self._by_key or len(self._by_key) < FAULTS_MAX:
            self._by_key[name] = fault
        else:
            self.unlisted += 1

    def add(self, found: NotUsable, *, shard: int = -1) -> None:
        """List what was found."""
        self.note(found.kind, found.key, found.why, found.remedy, shard=shard)

    def clear(self, key: bytes) -> None:
        """The value can be used, or is gone."""
        self._by_key.pop(key.decode(errors="backslashreplace"), None)

    def clear_shard(self, shard: int) -> None:
        """The shard has another owner, who lists what it finds."""
        for fault in self:
            if fault.shard == shard:
                del self._by_key[fault.key]

    def by_kind(self) -> Counter[str]:
        """How many there are of each kind."""
        return Counter(fault.kind for fault in self._by_key.values())
