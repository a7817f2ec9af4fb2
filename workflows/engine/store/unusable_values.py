"""Faults: stored values that this worker cannot use, each with a reason and a remedy.

A fault belongs to one key. The worker leaves the stored object unchanged, and proceeds with all
other objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core.errors import LogCorrupt, UnusableValue
from core.eventstore.keys import Keys, key_text
from core.eventstore.undecodable_values import ContainedFault, Faults
from workflows.engine.clock import Deadlines
from workflows.engine.store.keys import shard_of
from workflows.model.errors import LimitExceeded

RETRY_UNUSABLE_S = 60.0
"""Seconds between two reads of an unusable value."""

DECODING_ERRORS = (LogCorrupt, ValueError, RecursionError)
"""Exceptions of decoders, also for invalid UTF-8 and deeply nested values."""

ERRORS_OF_ONE_EXECUTION = (LogCorrupt, LimitExceeded)
"""Errors after which a client proceeds with all other executions."""


class WorkerFaults:
    """The faults that one worker has reported to the registry of its process.

    ``shards`` maps the key of a fault to the key's shard, or to -1 if it has none.
    """

    def __init__(self, keys: Keys, faults: Faults | None = None) -> None:
        self._keys = keys
        self._faults = Faults() if faults is None else faults
        self.shards: dict[str, int] = {}

    def __iter__(self) -> Iterator[ContainedFault]:
        return (fault for fault in self._faults if fault.key in self.shards)

    def __len__(self) -> int:
        return len(self.shards)

    def note(self, kind: str, key: bytes, why: object, remedy: str, *, shard: int = -1) -> None:
        """Build the value of a fault, and report it; ``shard`` -1: the key belongs to no shard."""
        self.add(UnusableValue(kind, key, why, remedy), shard=shard)

    def add(self, value: UnusableValue, *, shard: int = -1) -> None:
        """Report ``value`` as a fault."""
        fault = self._faults.report(value.kind, key_text(self._keys, value.key), value)
        if fault.key in self._faults.by_key:  # a full registry only counts further faults
            self.shards[fault.key] = shard

    def clear(self, key: bytes) -> None:
        """Remove the fault of a key."""
        self._clear(key_text(self._keys, key))

    def clear_shard(self, shard: int) -> None:
        """Remove the faults of a shard that this worker no longer owns."""
        for name in [name for name, its_shard in self.shards.items() if its_shard == shard]:
            self._clear(name)

    def clear_all(self) -> None:
        """Remove all faults of this worker."""
        for name in list(self.shards):
            self._clear(name)

    def _clear(self, name: str) -> None:
        if self.shards.pop(name, None) is not None:
            self._faults.clear(name)


class RunObstacle:
    """The reason why one execution does not proceed, reported as a fault until ``clear``.

    ``retry`` is called after ``RETRY_UNUSABLE_S``.
    """

    def __init__(
        self,
        faults: WorkerFaults,
        deadlines: Deadlines,
        value: UnusableValue,
        workflow_id: str,
        retry: Callable[[], None],
    ) -> None:
        self.value = value
        self._faults = faults
        faults.add(value, shard=shard_of(workflow_id))
        self._retry = deadlines.after(RETRY_UNUSABLE_S, retry)

    def clear(self) -> None:
        """Remove the fault and cancel the retry."""
        self._retry.cancel()
        self._faults.clear(self.value.key)
