"""Objects of one kind: watched by a reflector, and read from the API server.

``seen`` may lag behind, so that an object that it lacks may exist. ``ask`` reads from the API
server: object by object, or in one list if there are many. If one read fails, all are unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar

from core.domain.fixed.owners import MissingOwner
from core.domain.reclaim.cluster import NEVER_EMPTY
from core.errors import ApiError, ApiNotFound, NotReady
from core.kubernetes.api import Api, Object, segment
from core.kubernetes.informer import ObjectKey, Reflector, key_of
from core.process.concurrency import until_all

T = TypeVar("T")

READS_MAX: Final = 200
"""Objects that are read one by one; for more, all objects are listed."""

READS_AT_ONCE: Final = 16

DISCOVERY_S: Final = 60.0
"""Seconds between two checks whether the API server has an optional kind."""

_log: Final = logging.getLogger(__name__)


class Collection(Generic[T]):
    """The objects below ``path``; ``kind``: their name in texts.

    ``optional``: the API server may lack the kind; it is watched after it appears. ``reads``:
    requests of ``ask`` and ``within``. An empty list of a kind in ``NEVER_EMPTY`` is an error.
    """

    def __init__(
        self,
        api: Api,
        kind: str,
        path: str,
        keep: Callable[[Object], T],
        *,
        optional: bool = False,
    ) -> None:
        self.kind = kind
        self.seen = Reflector(api, path, keep)
        self.served = not optional
        self.watching = False
        self.reads = 0
        self._api = api
        self._keep = keep
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    @property
    def fault(self) -> str:
        """Why ``seen`` may be incomplete or stale, or ""."""
        if not self.served:
            return f"the API server has no {self.kind} objects"
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

    async def ask(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, T | MissingOwner]:
        """The objects of these names now, as the API server returns them."""
        names = frozenset(keys)
        objects: dict[ObjectKey, T] = {}
        try:
            if len(names) <= READS_MAX:
                await until_all(*(self._read(key, objects) for key in names))
            else:
                await self._list(names, objects)
        except (ApiError, NotReady) as error:
            why = f"{self.kind} objects cannot be read: {error}"
            missing = MissingOwner(certain=False, why=why, unanswered=error.retryable)
            return dict.fromkeys(names, missing)
        return {key: objects[key] if key in objects else self._gone(key) for key in names}

    async def within(self, namespace: str) -> list[T]:
        """The objects of a namespace now. Raises ApiError."""
        self.reads += 1
        group, _, plural = self.seen.path.rpartition("/")
        path = f"{group}/namespaces/{namespace}/{plural}"
        return [self._keep(body) async for page in self._api.pages(path) for body in page.objects()]

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

    async def _read(self, key: ObjectKey, objects: dict[ObjectKey, T]) -> None:
        async with self._slots:
            self.reads += 1
            body = await self._api.find(self._path(key))
        if body is not None:
            objects[key] = self._keep(body)

    async def _list(self, names: frozenset[ObjectKey], objects: dict[ObjectKey, T]) -> None:
        self.reads += 1
        is_empty = True
        async for page in self._api.pages(self.seen.path):
            for body in page.objects():
                is_empty = False
                key = key_of(body)
                if key in names:
                    objects[key] = self._keep(body)
        if is_empty and self.kind in NEVER_EMPTY:
            raise NotReady(
                f"the list of {self.kind} objects is empty; every cluster has such objects"
            )

    def _path(self, key: ObjectKey) -> str:
        group, _, plural = self.seen.path.rpartition("/")
        namespace, name = key
        within = f"{group}/namespaces/{segment(namespace)}" if namespace else group
        return f"{within}/{plural}/{segment(name)}"

    def _gone(self, key: ObjectKey) -> MissingOwner:
        return MissingOwner(certain=True, why=f"{self.kind} {'/'.join(key)} is gone")
