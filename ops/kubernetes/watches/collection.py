"""Objects of one kind: as they were last seen, and as they are when the API server is asked.

``seen`` may lag behind, so it proves nothing about what is not in it. ``ask`` reads from the server
itself, one by one or, when they are many, in one list; what cannot be read is unknown, all of it.
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
"""Objects that are read one by one; to ask about more, all are listed."""

READS_AT_ONCE: Final = 16

SERVED_LOOK_S: Final = 60.0
"""Between two looks whether the API server has a kind that it may lack."""

_log: Final = logging.getLogger(__name__)


class Collection(Generic[T]):
    """``kind`` is what people call them, ``path`` where all of them are.

    ``optional``: the API server may lack the kind; it is watched soon after it is there.
    ``reads`` counts what was asked. A list without a single object is not believed of a kind in
    ``NEVER_EMPTY``.
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
        """Why what was seen is not what there is, "" when it is as far as anybody can tell."""
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
        """What is so of these names now."""
        wanted = frozenset(keys)
        found: dict[ObjectKey, T] = {}
        try:
            if len(wanted) <= READS_MAX:
                await until_all(*(self._read(key, found) for key in wanted))
            else:
                await self._list(wanted, found)
        except (ApiError, NotReady) as error:
            why = f"{self.kind} objects cannot be read: {error}"
            missing = MissingOwner(certain=False, why=why, unanswered=error.retryable)
            return dict.fromkeys(wanted, missing)
        return {key: found[key] if key in found else self._gone(key) for key in wanted}

    async def within(self, namespace: str) -> list[T]:
        """All that are in a namespace now. Raises ApiError."""
        self.reads += 1
        group, _, plural = self.seen.path.rpartition("/")
        path = f"{group}/namespaces/{namespace}/{plural}"
        return [self._keep(one) async for page in self._api.pages(path) for one in page.objects()]

    async def _until_served(self) -> None:
        while not self.served:
            try:
                await self._api.get(self.seen.path.rpartition("/")[0])
            except ApiNotFound:
                await asyncio.sleep(SERVED_LOOK_S)
            except ApiError as error:
                _log.warning("the number of %s objects is unknown: %s", self.kind, error)
                await asyncio.sleep(SERVED_LOOK_S)
            else:
                self.served = True

    async def _read(self, key: ObjectKey, found: dict[ObjectKey, T]) -> None:
        async with self._slots:
            self.reads += 1
            one = await self._api.find(self._path(key))
        if one is not None:
            found[key] = self._keep(one)

    async def _list(self, wanted: frozenset[ObjectKey], found: dict[ObjectKey, T]) -> None:
        self.reads += 1
        is_empty = True
        async for page in self._api.pages(self.seen.path):
            for one in page.objects():
                is_empty = False
                key = key_of(one)
                if key in wanted:
                    found[key] = self._keep(one)
        if is_empty and self.kind in NEVER_EMPTY:
            raise NotReady(
                f"the list of {self.kind} objects is empty; every cluster has such objects"
            )

    def _path(self, key: ObjectKey) -> str:
        group, _, plural = self.seen.path.rpartition("/")
        namespace, name = map(segment, key)
        return f"{group}/namespaces/{namespace}/{plural}/{name}"

    def _gone(self, key: ObjectKey) -> MissingOwner:
        return MissingOwner(certain=True, why=f"{self.kind} {'/'.join(key)} is gone")
