"""An API client whose lists and watch events a test controls.

It can expire a watch, return an empty list and lose a watch event.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from core.errors import ApiExpired, ApiNotFound, ApiUnavailable
from core.kubernetes.api_client import Object, Page, WatchEvent


class ScriptedApi:
    """A fake API client.

    ``objects``: path of a collection -> ``namespace/name`` -> object. ``requests``: the paths that
    were read.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = defaultdict(dict)
        self.is_unavailable = False
        self.requests: list[str] = []
        self._version = 1
        self._events: dict[str, asyncio.Queue[WatchEvent | None]] = defaultdict(asyncio.Queue)

    def put(self, collection: str, object_: Object, *, watched: bool = True) -> None:
        """Create or change an object. If ``watched`` is false, no watch gets the event."""
        metadata = object_["metadata"]
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[collection][_inner_path(metadata)] = object_
        if watched:
            self._events[collection].put_nowait(WatchEvent("MODIFIED", object_))

    def drop(self, collection: str, name: str, *, watched: bool = True) -> None:
        """Delete an object."""
        deleted = self.objects[collection].pop(name)
        self._version += 1
        deleted["metadata"]["resourceVersion"] = str(self._version)
        if watched:
            self._events[collection].put_nowait(WatchEvent("DELETED", deleted))

    def expire(self, collection: str) -> None:
        """End the watch with the error for an expired version."""
        self._events[collection].put_nowait(None)

    def break_watch(self, collection: str) -> None:
        """Wake the watch, so that it fails if ``is_unavailable`` is set."""
        self._events[collection].put_nowait(WatchEvent("BOOKMARK", {}))

    async def find(self, path: str) -> Object | None:
        self.requests.append(path)
        self._check_available(path)
        group, _, path_in_namespaces = path.partition("/namespaces/")
        if not path_in_namespaces:
            collection, _, name = path.rpartition("/")
            return self.objects[collection].get(name)
        namespace, plural, name = path_in_namespaces.split("/")
        return self.objects[f"{group}/{plural}"].get(f"{namespace}/{name}")

    async def get(self, path: str) -> Object:
        """Raise ``ApiNotFound``: no API group is served."""
        raise ApiNotFound(f"there is no {path}")

    async def pages(self, path: str) -> AsyncIterator[Page]:
        self.requests.append(path)
        self._check_available(path)
        group, _, path_in_namespaces = path.partition("/namespaces/")
        namespace, _, plural = path_in_namespaces.partition("/")
        collection_objects = self.objects[f"{group}/{plural}" if path_in_namespaces else path]
        prefix = f"{namespace}/" if namespace else ""
        selected = [item for name, item in collection_objects.items() if name.startswith(prefix)]
        texts = [msgspec.Raw(msgspec.json.encode(item)) for item in selected]
        yield Page(texts, str(self._version))

    async def watch(
        self, path: str, version: str, opened: Callable[[], None]
    ) -> AsyncIterator[WatchEvent]:
        self._check_available(path)
        opened()
        while True:
            change = await self._events[path].get()
            self._check_available(path)
            if change is None:
                raise ApiExpired("too old a version", subject=path)
            yield change

    def _check_available(self, path: str) -> None:
        if self.is_unavailable:
            raise ApiUnavailable("the API server does not answer", subject=path)


def _inner_path(metadata: dict[str, Any]) -> str:
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    return f"{namespace}/{name}" if namespace else name
