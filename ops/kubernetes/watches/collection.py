"""Objects of one kind, watched by a reflector or read from the API server.

A watch may lag behind: an object that is missing in ``seen`` may exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar

from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.reclaim.evidence import KINDS_NEVER_EMPTY
from core.errors import ApiError, ApiNotFound, NotReady
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import ObjectKey, Reflector, key_of
from core.process.concurrency import until_all

T = TypeVar("T")

READS_MAX: Final = 200
"""If more objects are requested, all objects are listed instead."""

CONCURRENT_READS_MAX: Final = 16

DISCOVERY_S: Final = 60.0
"""The pause between checks whether an optional kind is served."""

_log: Final = logging.getLogger(__name__)


class Collection(Generic[T]):
    """The objects below ``path``.

    ``seen``: the watched objects, transformed. ``optional``: the API server may not serve the kind
    yet. ``reads``: the number of direct reads and lists.
    """

    def __init__(
        self,
        api: Api,
        kind: str,
        path: str,
        transform: Callable[[Object], T],
        *,
        optional: bool = False,
    ) -> None:
        self.kind = kind
        self.seen = Reflector(api, path, transform)
        self.served = not optional
        self.watching = False
        self.reads = 0
        self._api = api
        self._transform = transform
        self._read_slots = asyncio.Semaphore(CONCURRENT_READS_MAX)

    @property
    def fault(self) -> str:
        """Why ``seen`` may be incomplete or stale, or ""."""
        if not self.served:
            return f"the API server does not serve {self.kind} objects"
        if not self.seen.listed.is_set():
            return self.seen.fault or f"{self.kind} objects were not listed yet"
        return self.seen.fault

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._until_served()
        self.watching = True
        try:
            await self.seen.run()
        finally:
            self.watching = False

    async def read(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, T | MissingOwner]:
        """Read these objects from the API server; if one read fails, all are unknown."""
        names = frozenset(keys)
        objects: dict[ObjectKey, T] = {}
        try:
            if len(names) <= READS_MAX:
                await until_all(*(self._read_one(key, objects) for key in names))
            else:
                await self._list(names, objects)
        except (ApiError, NotReady) as error:
            why = f"{self.kind} objects cannot be read: {error}"
            missing = MissingOwner(certain=False, why=why, unanswered=error.retryable)
            return dict.fromkeys(names, missing)
        return {key: objects[key] if key in objects else self._missing(key) for key in names}

    async def list_namespace(self, namespace: str) -> list[T]:
        """List the objects of a namespace from the API server. Raises ApiError."""
        self.reads += 1
        group, _, plural = self.seen.path.rpartition("/")
        path = f"{group}/namespaces/{namespace}/{plural}"
        return [
            self._transform(body) async for page in self._api.pages(path) for body in page.objects()
        ]

    async def _until_served(self) -> None:
        while not self.served:
            try:
                await self._api.get(self.seen.path.rpartition("/")[0])
            except ApiNotFound:
                await asyncio.sleep(DISCOVERY_S)
            except ApiError as error:
                _log.warning("cannot find out whether %s objects are served: %s", self.kind, error)
                await asyncio.sleep(DISCOVERY_S)
            else:
                self.served = True

    async def _read_one(self, key: ObjectKey, objects: dict[ObjectKey, T]) -> None:
        async with self._read_slots:
            self.reads += 1
            body = await self._api.find(self._path(key))
        if body is not None:
            objects[key] = self._transform(body)

    async def _list(self, names: frozenset[ObjectKey], objects: dict[ObjectKey, T]) -> None:
        self.reads += 1
        is_empty = True
        async for page in self._api.pages(self.seen.path):
            for body in page.objects():
                is_empty = False
                key = key_of(body)
                if key in names:
                    objects[key] = self._transform(body)
        if is_empty and self.kind in KINDS_NEVER_EMPTY:
            raise NotReady(
                f"the list of {self.kind} objects is empty, but every cluster has such objects",
                remedy="check the controller's right to list these objects",
            )

    def _path(self, key: ObjectKey) -> str:
        group, _, plural = self.seen.path.rpartition("/")
        namespace, name = key
        if namespace:
            group = f"{group}/namespaces/{segment(namespace)}"
        return f"{group}/{plural}/{segment(name)}"

    def _missing(self, key: ObjectKey) -> MissingOwner:
        return MissingOwner(certain=True, why=f"{self.kind} {'/'.join(key)} is gone")
