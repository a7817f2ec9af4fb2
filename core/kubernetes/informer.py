"""An informer: a watched copy of one collection, and the objects that changed in it.

Level-triggered: listeners receive *which* objects have changed, not how, so that nothing is lost
when a watch ends, and a relist after any downtime returns exactly the difference. Handlers of
transitions also receive whether a deletion was *reported* by a watch or found by a list. A
collection that does not exist (its CRD is not installed) is not an empty one: the informer waits
for it and reports that in ``fault``.

``Echoes`` drops the changes that this process wrote itself. The version of the object tells them
apart: a change is dropped only when its version is that of a response to one of our writes. When
the watch is faster than the response, the object is compared once more, which does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from core.errors import ApiError, ApiExpired, ApiNotServed, ApiRejected
from core.kubernetes.api import SILENCE_S_MAX, Api, Object, WatchEvent
from core.process.retry import Backoff
from core.process.supervision import TaskSpec

ObjectKey = tuple[str, str]
"""Namespace ("" for none) and name."""

T = TypeVar("T")

PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 15.0
"""Between two attempts while the server is away, or forgets versions at once; doubled each time,
and half of it is chance.
"""

STALE_S_MAX: Final = SILENCE_S_MAX + PAUSE_S_MAX
"""A reflector that has neither received nor requested anything for this long is stuck."""

OBJECTS_MAX: Final = 100_000
"""The objects of one collection; a larger one is refused."""

_log: Final = logging.getLogger(__name__)


def key_of(one: Object) -> ObjectKey:
    """The key of an object: its namespace and name."""
    metadata = one["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def unmanaged(item: Object) -> Object:
    """An object without ``managedFields``, which are half of its size."""
    item["metadata"].pop("managedFields", None)
    return item


class Transition(NamedTuple, Generic[T]):
    """The stored object before and after a change; None: it does not exist.

    ``reported``: by an event of a watch. Else by a list, in which a missing object is not a report
    of its deletion.
    """

    key: ObjectKey
    before: T | None
    after: T | None
    reported: bool


class Reflector(Generic[T]):
    """Keeps ``objects``, a copy of the collection, which is complete once ``listed`` is set.

    Listeners are called with the changed keys, in the event loop, after ``objects`` has changed.
    ``keep`` reduces an object to the fields to store. ``tried`` is set once the first list has
    succeeded or failed.
    """

    def __init__(self, api: Api, path: str, keep: Callable[[Object], T]) -> None:
        self.path = path
        self.objects: dict[ObjectKey, T] = {}
        self.listed = asyncio.Event()
        self.tried = asyncio.Event()
        self.lists = 0
        self.fault = ""
        self._api = api
        self._keep = keep
        self._listeners: list[Callable[[set[ObjectKey]], None]] = []
        self._handlers: list[Callable[[Transition[T]], None]] = []
        self._versions: dict[ObjectKey, str] = {}
        self._version = ""
        self._backoff = Backoff(PAUSE_S_MIN, PAUSE_S_MAX, jitter=0.5)
        self._answered_at = -math.inf

    def age_s(self) -> float:
        """Seconds since the server last answered, or the last failed request."""
        return time.monotonic() - self._answered_at

    def listen(self, listener: Callable[[set[ObjectKey]], None]) -> None:
        """Call the listener with the keys that change from now on."""
        self._listeners.append(listener)

    def add_handler(self, handler: Callable[[Transition[T]], None]) -> None:
        """Call the handler with each transition from now on, one at a time."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """List and watch the collection until cancelled.

        Nothing is raised: a missing permission may be granted later; ``fault`` reports it.
        """
        while True:
            try:
                if not self._version:
                    await self._list()
                async for change in self._api.watch(self.path, self._version, self._opened):
                    self._take(change)
            except ApiExpired:
                self._version = ""
            except ApiError as error:
                self._failed(error)
            await self._backoff.wait()  # also after a watch that the server ended immediately

    def _failed(self, error: ApiError) -> None:
        """Set ``fault``, and log it when it is another one than before."""
        fault = str(error)
        if isinstance(error, ApiNotServed):
            fault = f"the API server has no {self.path}: its definition is not installed"
        if fault != self.fault:
            _log.warning("the watch of %s failed and is repeated: %s", self.path, fault)
        self.fault = fault
        self.tried.set()
        self._answered_at = time.monotonic()

    def _opened(self) -> None:
        self._backoff.reset()
        self._answered_at = time.monotonic()
        self.fault = ""

    async def _list(self) -> None:
        objects: dict[ObjectKey, T] = {}
        versions: dict[ObjectKey, str] = {}
        version = ""
        async for page in self._api.pages(self.path):
            self._answered_at = time.monotonic()
            for item in page.objects():
                key = key_of(item)
                versions[key] = _version(item)
                objects[key] = self._keep(item)
            version = page.version
            if len(objects) > OBJECTS_MAX:
                message = f"more objects than the limit of {OBJECTS_MAX}"
                raise ApiRejected(message, subject=self.path)
        before, self.objects = self.objects, objects
        older, self._versions = self._versions, versions
        self._version = version
        self.lists += 1
        self.listed.set()
        self.tried.set()
        different = {
            key for key in older.keys() | versions.keys() if older.get(key) != versions.get(key)
        }
        for key in different if self._handlers else ():
            self._handle_transitions(
                Transition(key, before.get(key), objects.get(key), reported=False)
            )
        self._notify(different)

    def _take(self, change: WatchEvent) -> None:
        self._answered_at = time.monotonic()
        self._version = version = _version(change.object)
        if change.kind == "BOOKMARK":
            return
        key = key_of(change.object)
        before = self.objects.get(key)
        last = self._keep(change.object)
        self.objects[key], self._versions[key] = last, version
        self._handle_transitions(Transition(key, before, last, reported=True))
        if change.kind == "DELETED":  # with its last state, which no handler may have received yet
            del self.objects[key], self._versions[key]
            self._handle_transitions(Transition(key, last, None, reported=True))
        self._notify({key})

    def _handle_transitions(self, transition: Transition[T]) -> None:
        for handler in self._handlers:
            handler(transition)

    def _notify(self, keys: set[ObjectKey]) -> None:
        for listener in self._listeners if keys else ():
            listener(keys)


def following(
    name: str, run: Callable[[], Coroutine[Any, Any, object]], reflectors: Sequence[Reflector[Any]]
) -> TaskSpec:
    """The supervised task of these reflectors, which ``run`` runs; failed while one of them is."""
    return TaskSpec(
        name,
        run,
        age_s=lambda: max(reflector.age_s() for reflector in reflectors),
        stale_s=STALE_S_MAX,
        fault=lambda: next((reflector.fault for reflector in reflectors if reflector.fault), ""),
    )


class Informer(Reflector[Object]):
    """A reflector that stores objects as they are."""

    def __init__(self, api: Api, path: str, keep: Callable[[Object], Object] = unmanaged) -> None:
        super().__init__(api, path, keep)


class Echoes:
    """This process's own writes to the objects of one informer.

    Bounded by these objects, because the next change of an object removes its entry.
    """

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._written: dict[ObjectKey, str] = {}

    def note(self, written: Object) -> None:
        """Note the response to a write of this process."""
        self._written[key_of(written)] = _version(written)

    def without(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        """The objects among ``keys`` that others have changed."""
        return {key for key in keys if not self._is_own(key)}

    def _is_own(self, key: ObjectKey) -> bool:
        written = self._written.pop(key, "")
        one = self._informer.objects.get(key)
        return bool(written) and one is not None and _version(one) == written


def _version(one: Object) -> str:
    version: str = one["metadata"]["resourceVersion"]
    return version
