"""Stored values that this worker cannot use: which ones, why, and what to do about each.

A fault belongs to one key. The object of that key is left alone, everything else goes on, and after
``RETRY_UNUSABLE_S`` the key is read again. They are reported to the registry of the process
(``core.eventstore.faults``), whose metric, health and commands show them.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import LogCorrupt, UnusableValue
from core.eventstore.faults import ContainedFault, Faults
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from workflows.model.errors import LimitExceeded

RETRY_UNUSABLE_S = 60.0
"""Between two reads of a value that could not be used."""

UNREADABLE = (LogCorrupt, ValueError, RecursionError)
"""What a decoder raises: bytes that do not fit, text that is no UTF-8, values too deeply nested."""

OF_ONE_EXECUTION = (LogCorrupt, LimitExceeded)
"""What a client raises for an execution that cannot be used: its caller goes on with all others."""


class WorkerFaults:
    """What one worker has reported to the registry of its process, by key."""

    def __init__(self, keys: Keys, faults: Faults | None = None) -> None:
        self._keys = keys
        self._faults = Faults() if faults is None else faults
        self._shards: dict[str, int] = {}

    def __iter__(self) -> Iterator[ContainedFault]:
        return (fault for fault in self._faults if fault.key in self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def note(self, kind: str, key: bytes, why: object, remedy: str, *, shard: int = -1) -> None:
        """Report a fault; ``shard`` -1: it belongs to no shard."""
        self.add(UnusableValue(kind, key, why, remedy), shard=shard)

    def add(self, found: UnusableValue, *, shard: int = -1) -> None:
        """Report what was found."""
        fault = self._faults.report(found.kind, key_text(self._keys, found.key), found)
        if self._faults.get(fault.key) is not None:
            self._shards[fault.key] = shard

    def clear(self, key: bytes) -> None:
        """The value can be used, or is gone."""
        if self._shards:
            self._clear(key_text(self._keys, key))

    def clear_shard(self, shard: int) -> None:
        """The shard has another owner, who reports what it finds."""
        for name in [name for name, of in self._shards.items() if of == shard]:
            self._clear(name)

    def clear_all(self) -> None:
        """Everything is about to be read anew."""
        for name in list(self._shards):
            self._clear(name)

    def _clear(self, name: str) -> None:
        if self._shards.pop(name, None) is not None:
            self._faults.clear(name)
