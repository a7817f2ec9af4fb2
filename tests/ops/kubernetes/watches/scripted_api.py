"""An API server that a test controls: its lists and the events of its watches.

For situations that a real server produces rarely: an expired version, an empty list, a watch with a
lost event.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from core.errors import ApiExpired, ApiNotFound, ApiUnavailable
from core.kubernetes.api import Object, Page, WatchEvent


class ScriptedApi:
    """``objects`` by path of their collection, each by its path within it; ``away``: no answer."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = defaultdict(dict)
        self.away = False
        self.asked: list[str] = []
        self._version = 1
        self._events: dict[str, asyncio.Queue[WatchEvent | None]] = defaultdict(asyncio.Queue)

    def put(self, collection: str, one: Object, *, seen: bool = True) -> None:
        """Create or change an object; the watch reports it if ``seen``."""
        known = one["metadata"]
        self._version += 1
        known["resourceVersion"] = str(self._version)
        self.objects[collection][_inner(known)] = one
        if seen:
            self._events[collection].put_nowait(WatchEvent("MODIFIED", one))

    def drop(self, collection: str, name: str, *, seen: bool = True) -> None:
        """Delete an object; the watch reports it if ``seen``."""
        one = self.objects[collection].pop(name)
        self._version += 1
        one["metadata"]["resourceVersion"] = str(self._version)
        if seen:
            self._events[collection].put_nowait(WatchEvent("DELETED", one))

    def expire(self, collection: str) -> None:
        """End the watch: its version has expired."""
        self._events[collection].put_nowait(None)

    def hang_up(self, collection: str) -> None:
        """Break the watch; while ``away`` is set no new one succeeds."""
        self._events[collection].put_nowait(WatchEvent("BOOKMARK", {}))

    async def find(self, path: str) -> Object | None:
        self.asked.append(path)
        self._answer(path)
        group, _, rest = path.partition("/namespaces/")
        if not rest:
            collection, _, name = path.rpartition("/")
            return self.objects[collection].get(name)
        namespace, plural, name = rest.split("/")
        return self.objects[f"{group}/{plural}"].get(f"{namespace}/{name}")

    async def get(self, path: str) -> Object:
        raise ApiNotFound(f"there is no {path}")

    async def pages(self, path: str) -> AsyncIterator[Page]:
        self.asked.append(path)
        self._answer(path)
        group, _, within = path.partition("/namespaces/")
        namespace, _, plural = within.partition("/")
        listed = self.objects[f"{group}/{plural}" if within else path]
        found = (one for name, one in listed.items() if name.startswith(namespace))
        texts = [msgspec.Raw(msgspec.json.encode(one)) for one in found]
        yield Page(texts, str(self._version))

    async def watch(
        self, path: str, version: str, opened: Callable[[], None]
    ) -> AsyncIterator[WatchEvent]:
        self._answer(path)
        opened()
        while True:
            change = await self._events[path].get()
            self._answer(path)
            if change is None:
                raise ApiExpired("too old a version", subject=path)
            yield change

    def _answer(self, path: str) -> None:
        if self.away:
            raise ApiUnavailable("the API server does not answer", subject=path)


def _inner(metadata: dict[str, Any]) -> str:
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    return f"{namespace}/{name}" if namespace else name
