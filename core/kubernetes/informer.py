"""An informer: a copy of one collection that follows the server, and what changed in it.

Level-triggered: listeners are told *which* objects differ from what was there before, never what
happened to them, so that nothing is lost when a watch breaks, and a relist after any downtime tells
exactly the difference. Who must know whether an object was *reported* to be deleted or is only seen
no more attends to transitions. A collection that does not exist (its definition is not installed)
is not an empty one: the informer waits for it and says so (``fault``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from core.errors import ApiError, ApiExpired, ApiRejected
from core.kubernetes.api import SILENCE_S_MAX, Api, Object, WatchEvent
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
"""A follower that has neither heard nor tried anything for this long is stuck."""

OBJECTS_MAX: Final = 100_000
"""Of one collection; more are refused rather than swallowed."""

_log: Final = logging.getLogger(__name__)


def key_of(one: Object) -> ObjectKey:
    """By what an object is found."""
    metadata = one["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def unmanaged(one: Object) -> Object:
    """An object without the half of its size that says who wrote which field."""
    one["metadata"].pop("managedFields", None)
    return one


class Transition(NamedTuple, Generic[T]):
    """What was kept of an object, and what is; None: nothing.

    ``reported``: an event of a watch says so. Otherwise a list shows it so, and that an object is
    missing there is no report of its deletion.
    """

    key: ObjectKey
    before: T | None
    after: T | None
    reported: bool


class Reflector(Generic[T]):
    """``objects`` is what the server has, whole once ``listed`` is set; ask for it each time.

    Listeners are called with the keys that differ, in the event loop, after ``objects`` is new.
    ``keep`` makes of an object what is kept of it.
    """

    def __init__(self, api: Api, path: str, keep: Callable[[Object], T]) -> None:
        self.path = path
        self.objects: dict[ObjectKey, T] = {}
        self.listed = asyncio.Event()
        self.lists = 0
        self.fault = ""
        self._api = api
        self._keep = keep
        self._listeners: list[Callable[[set[ObjectKey]], None]] = []
        self._attending: list[Callable[[Transition[T]], None]] = []
        self._versions: dict[ObjectKey, str] = {}
        self._version = ""
        self._pause_s = PAUSE_S_MIN
        self._heard_at = -math.inf

    def age_s(self) -> float:
        """Seconds since the server last answered or was last asked in vain."""
        return time.monotonic() - self._heard_at

    def listen(self, listener: Callable[[set[ObjectKey]], None]) -> None:
        """Be told of what differs from now on."""
        self._listeners.append(listener)

    def attend(self, attendant: Callable[[Transition[T]], None]) -> None:
        """Be told of every transition from now on, one at a time."""
        self._attending.append(attendant)

    async def run(self) -> None:
        """Follow the collection until cancelled.

        Nothing is raised: rights that are missing now may be given later, and ``fault`` says so.
        """
        while True:
            try:
                if not self._version:
                    await self._list()
                async for change in self._api.watch(self.path, self._version, self._opened):
                    self._take(change)
                await asyncio.sleep(PAUSE_S_MIN)  # it may end every watch as soon as it begins
            except ApiExpired:
                self._version = ""
                await self._pause()
            except ApiError as error:
                self.fault = str(error)
                self._heard_at = time.monotonic()
                _log.warning("%s is not followed: %s", self.path, error)
                await self._pause()

    async def _pause(self) -> None:
        pause_s = self._pause_s
        await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311  # a pause
        self._pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def _opened(self) -> None:
        self._pause_s = PAUSE_S_MIN
        self._heard_at = time.monotonic()
        self.fault = ""

    async def _list(self) -> None:
        objects: dict[ObjectKey, T] = {}
        versions: dict[ObjectKey, str] = {}
        version = ""
        async for page in self._api.pages(self.path):
            self._heard_at = time.monotonic()
            for one in page.objects():
                key = key_of(one)
                versions[key] = _version(one)
                objects[key] = self._keep(one)
            version = page.version
            if len(objects) > OBJECTS_MAX:
                message = f"more objects than the limit of {OBJECTS_MAX}"
                raise ApiRejected(message, subject=self.path)
        before, self.objects = self.objects, objects
        older, self._versions = self._versions, versions
        self._version = version
        self.lists += 1
        self.listed.set()
        different = {
            key for key in older.keys() | versions.keys() if older.get(key) != versions.get(key)
        }
        for key in different if self._attending else ():
            self._attend(Transition(key, before.get(key), objects.get(key), reported=False))
        self._tell(different)

    def _take(self, change: WatchEvent) -> None:
        self._heard_at = time.monotonic()
        self._version = version = _version(change.object)
        if change.kind == "BOOKMARK":
            return
        key = key_of(change.object)
        before = self.objects.get(key)
        last = self._keep(change.object)
        self.objects[key], self._versions[key] = last, version
        self._attend(Transition(key, before, last, reported=True))
        if change.kind == "DELETED":  # with its last state, which nobody may have seen yet
            del self.objects[key], self._versions[key]
            self._attend(Transition(key, last, None, reported=True))
        self._tell({key})

    def _attend(self, transition: Transition[T]) -> None:
        for attendant in self._attending:
            attendant(transition)

    def _tell(self, keys: set[ObjectKey]) -> None:
        for listener in self._listeners if keys else ():
            listener(keys)


def following(
    name: str, run: Callable[[], Coroutine[Any, Any, object]], followers: Sequence[Reflector[Any]]
) -> TaskSpec:
    """The supervised task of these followers, which ``run`` runs: not well while one is not."""
    return TaskSpec(
        name,
        run,
        age_s=lambda: max(each.age_s() for each in followers),
        stale_s=STALE_S_MAX,
        fault=lambda: next((each.fault for each in followers if each.fault), ""),
    )


class Informer(Reflector[Object]):
    """A follower that keeps objects as they are."""

    def __init__(self, api: Api, path: str, keep: Callable[[Object], Object] = unmanaged) -> None:
        super().__init__(api, path, keep)


def _version(one: Object) -> str:
    version: str = one["metadata"]["resourceVersion"]
    return version
