"""An informer: keeps a copy of one collection by list and watch, and reports changed objects.

Listeners receive keys of changed objects, not the changes (level-triggered). If the server has
discarded the version at which the next watch would begin, a list shows what has changed.

A collection whose CRD is not installed sets ``fault`` and never counts as empty.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from core.errors import ApiError, ApiExpired, ApiNotServed, ApiRejected
from core.kubernetes.api_client import SILENCE_S_MAX, Api, Object, WatchEvent
from core.process.retry import Backoff
from core.process.supervision import TaskSpec

ObjectKey = tuple[str, str]
"""Namespace ("" for none) and name."""

T = TypeVar("T")

PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 15.0
"""Each failure doubles the pause before the next list or watch."""

STALE_S_MAX: Final = SILENCE_S_MAX + PAUSE_S_MAX
"""A reflector is stuck if it had neither a response nor a failed request for this time."""

OBJECTS_MAX: Final = 100_000

_log: Final = logging.getLogger(__name__)


def key_of(item: Object) -> ObjectKey:
    """The object's namespace and name."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def without_managed_fields(item: Object) -> Object:
    """Return ``item``; removes ``managedFields`` from it, which are half of its size."""
    item["metadata"].pop("managedFields", None)
    return item


class Transition(NamedTuple, Generic[T]):
    """The stored values of an object before and after a change; None if the object is missing.

    ``reported``: a watch event reported the change. A difference between two lists does not prove
    that an object was deleted.
    """

    key: ObjectKey
    before: T | None
    after: T | None
    reported: bool


class Reflector(Generic[T]):
    """Keeps ``objects``, a copy of a collection, complete once ``listed`` is set.

    Listeners are called in the event loop, after ``objects`` has changed. ``transform`` makes the
    value to store. ``first_list_tried`` is set once the first list has succeeded or failed.
    ``fault``: the last error, "" after a watch has begun.
    """

    def __init__(self, api: Api, path: str, transform: Callable[[Object], T]) -> None:
        self.path = path
        self.objects: dict[ObjectKey, T] = {}
        self.listed = asyncio.Event()
        self.first_list_tried = asyncio.Event()
        self.lists = 0
        self.fault = ""
        self._api = api
        self._transform = transform
        self._listeners: list[Callable[[set[ObjectKey]], None]] = []
        self._handlers: list[Callable[[Transition[T]], None]] = []
        self._versions: dict[ObjectKey, str] = {}
        self._version = ""
        self._backoff = Backoff(PAUSE_S_MIN, PAUSE_S_MAX, jitter=0.5)
        self._last_response_at = -math.inf

    def age_s(self) -> float:
        """Seconds since the last response or the last failed request."""
        return time.monotonic() - self._last_response_at

    def listen(self, listener: Callable[[set[ObjectKey]], None]) -> None:
        """Call the listener in the event loop with the keys of later changes."""
        self._listeners.append(listener)

    def add_handler(self, handler: Callable[[Transition[T]], None]) -> None:
        """Call the handler with every later transition, one at a time."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """List and watch the collection until cancelled.

        Every ApiError sets ``fault`` and is retried: even a missing permission may be granted
        later.
        """
        while True:
            try:
                if not self._version:
                    await self._list()
                async for change in self._api.watch(self.path, self._version, self._opened):
                    self._apply(change)
            except ApiExpired:
                self._version = ""
            except ApiError as error:
                self._note_failure(error)
            await self._backoff.wait()  # also after a watch that the server ended at once

    def _note_failure(self, error: ApiError) -> None:
        fault = str(error)
        if isinstance(error, ApiNotServed):
            fault = f"the API server has no {self.path}: its definition is not installed"
        if fault != self.fault:
            _log.warning("the watch of %s failed and will be retried: %s", self.path, fault)
        self.fault = fault
        self.first_list_tried.set()
        self._last_response_at = time.monotonic()

    def _opened(self) -> None:
        self._backoff.reset()
        self._last_response_at = time.monotonic()
        self.fault = ""

    async def _list(self) -> None:
        objects: dict[ObjectKey, T] = {}
        versions: dict[ObjectKey, str] = {}
        version = ""
        async for page in self._api.pages(self.path):
            self._last_response_at = time.monotonic()
            for item in page.objects():
                key = key_of(item)
                versions[key] = _version(item)
                objects[key] = self._transform(item)
            version = page.version
            if len(objects) > OBJECTS_MAX:
                message = f"{self.path} has more than {OBJECTS_MAX} objects, which is the limit"
                remedy = "delete objects that are not needed"
                raise ApiRejected(message, subject=self.path, remedy=remedy)
        old_objects, self.objects = self.objects, objects
        old_versions, self._versions = self._versions, versions
        self._version = version
        self.lists += 1
        self.listed.set()
        self.first_list_tried.set()
        changed = {
            key
            for key in old_versions.keys() | versions.keys()
            if old_versions.get(key) != versions.get(key)
        }
        for key in changed:
            self._handle_transition(
                Transition(key, old_objects.get(key), objects.get(key), reported=False)
            )
        self._notify(changed)

    def _apply(self, change: WatchEvent) -> None:
        self._last_response_at = time.monotonic()
        self._version = version = _version(change.object)
        if change.kind == "BOOKMARK":
            return
        key = key_of(change.object)
        before = self.objects.get(key)
        after = self._transform(change.object)
        self.objects[key], self._versions[key] = after, version
        self._handle_transition(Transition(key, before, after, reported=True))
        if change.kind == "DELETED":  # the transition above had the last state
            del self.objects[key], self._versions[key]
            self._handle_transition(Transition(key, after, None, reported=True))
        self._notify({key})

    def _handle_transition(self, transition: Transition[T]) -> None:
        for handler in self._handlers:
            handler(transition)

    def _notify(self, keys: set[ObjectKey]) -> None:
        if not keys:
            return
        for listener in self._listeners:
            listener(keys)


def reflector_task(
    name: str, run: Callable[[], Coroutine[Any, Any, object]], reflectors: Sequence[Reflector[Any]]
) -> TaskSpec:
    """The supervised task ``run``; unhealthy if a reflector is unhealthy."""
    return TaskSpec(
        name,
        run,
        age_s=lambda: max(reflector.age_s() for reflector in reflectors),
        stale_s=STALE_S_MAX,
        fault=lambda: next((reflector.fault for reflector in reflectors if reflector.fault), ""),
    )


class Informer(Reflector[Object]):
    """A reflector that stores objects as plain mappings."""

    def __init__(
        self, api: Api, path: str, transform: Callable[[Object], Object] = without_managed_fields
    ) -> None:
        super().__init__(api, path, transform)


class OwnWrites:
    """Recognises changes that this process wrote, by the ``resourceVersion`` in the response.

    Stores at most one write for each object. If the watch event arrives before the write is noted,
    the change counts as another client's: the object is reconciled once more, without effect.
    """

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._written: dict[ObjectKey, str] = {}

    def note(self, written: Object) -> None:
        """Remember the response to a write."""
        self._written[key_of(written)] = _version(written)

    def changed_by_others(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        """The keys whose objects other clients have changed."""
        return {key for key in keys if not self._is_own(key)}

    def _is_own(self, key: ObjectKey) -> bool:
        written_version = self._written.pop(key, "")
        item = self._informer.objects.get(key)
        return bool(written_version) and item is not None and _version(item) == written_version


def _version(item: Object) -> str:
    version: str = item["metadata"]["resourceVersion"]
    return version
