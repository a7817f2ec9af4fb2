"""The interpreters of a worker that are kept between workflow tasks, a bounded number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from workflows.model.limits import STICKY_CACHE_RUNS_MAX

Evict = Callable[[], None]


class InterpreterCache:
    """Evicts the least recently used interpreter above ``size``; 0 keeps none after its task."""

    def __init__(self, size: int = STICKY_CACHE_RUNS_MAX) -> None:
        self._size = size
        self._cached: OrderedDict[Hashable, Evict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cached)

    @property
    def keeps_nothing(self) -> bool:
        """Whether every workflow task replays its history."""
        return not self._size

    def note_use(self, owner: Hashable, evict: Evict) -> None:
        """``owner`` has an interpreter; may evict another one."""
        self._cached[owner] = evict
        self._cached.move_to_end(owner)
        if len(self._cached) > max(self._size, 1):
            _, evict_oldest = self._cached.popitem(last=False)
            evict_oldest()

    def remove(self, owner: Hashable) -> None:
        """``owner`` has dropped its interpreter."""
        self._cached.pop(owner, None)
