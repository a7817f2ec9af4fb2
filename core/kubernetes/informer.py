"""An informer: a copy of one collection that follows the server, and the names that changed.

Level-triggered: it tells *which* objects differ from what was there before, never what happened to
them, so that nothing is lost when a watch breaks, and a relist after any downtime tells exactly the
difference. A collection that does not exist (its definition is not installed) is not an empty one:
the informer waits for it and says so (``fault``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from core.errors import ApiError, ApiExpired, ApiRejected
from core.kubernetes.api import Api, Change, Object

ObjectKey = tuple[str, str]
"""Namespace ("" for none) and name."""

PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 15.0
"""Between two attempts while the server is away; doubled each time, and half of it is chance."""

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


class Informer:
    """``objects`` is what the server has, whole once ``listed`` is set; ask for it each time.

    Listeners are called with the keys that differ, in the event loop, after ``objects`` is new.
    ``keep`` says what of an object is kept: name, namespace and version at least.
    """

    def __init__(self, api: Api, path: str, keep: Callable[[Object], Object] = unmanaged) -> None:
        self.path = path
        self.objects: dict[ObjectKey, Object] = {}
        self.listed = asyncio.Event()
        self.lists = 0
        self.fault = ""
        self._api = api
        self._keep = keep
        self._listeners: list[Callable[[set[ObjectKey]], None]] = []
        self._version = ""

    def listen(self, listener: Callable[[set[ObjectKey]], None]) -> None:
        """Be told of what differs from now on."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the collection until cancelled.

        Nothing is raised: rights that are missing now may be given later, and ``fault`` says so.
        """
        pause_s = PAUSE_S_MIN
        while True:
            try:
                if not self._version:
                    await self._list()
                pause_s = PAUSE_S_MIN
                self.fault = ""
                async for change in self._api.watch(self.path, self._version):
                    self._take(change)
            except ApiExpired:
                self._version = ""
            except ApiError as error:
                self.fault = str(error)
                _log.warning("%s is not followed: %s", self.path, error)
                await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311  # a pause
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _list(self) -> None:
        found = await self._api.list(self.path)
        if len(found.items) > OBJECTS_MAX:
            message = f"{len(found.items)} objects are more than the limit of {OBJECTS_MAX}"
            raise ApiRejected(message, subject=self.path)
        before, self.objects = self.objects, {key_of(one): self._keep(one) for one in found.items}
        self._version = found.version
        self.lists += 1
        both = before.keys() & self.objects.keys()
        same = {key for key in both if _version(before[key]) == _version(self.objects[key])}
        self.listed.set()
        self._tell((before.keys() | self.objects.keys()) - same)

    def _take(self, change: Change) -> None:
        self._version = _version(change.object)
        if change.kind == "BOOKMARK":
            return
        key = key_of(change.object)
        if change.kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = self._keep(change.object)
        self._tell({key})

    def _tell(self, keys: set[ObjectKey]) -> None:
        for listener in self._listeners if keys else ():
            listener(keys)


def _version(one: Object) -> str:
    version: str = one["metadata"]["resourceVersion"]
    return version
