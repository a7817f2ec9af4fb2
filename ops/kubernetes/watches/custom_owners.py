"""Owners of kinds that nobody knows beforehand: whether they are gone.

What such an owner wants nobody can read from it; its Pods tell. But its automatic pools go with it.
Where its kind is served the API server says itself (discovery); a kind is watched once a pool of
such an owner is seen. Without the right to read the kind its pools stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from core.domain.autopools.names import ApplicationKey
from core.domain.fixed.owners import MissingOwner
from core.errors import ApiError
from core.kubernetes.api import Api, Object
from core.kubernetes.discovery import served_kind
from core.kubernetes.informer import Transition
from ops.kubernetes.watches.collection import Collection

KINDS_MAX: Final = 32
"""Kinds that are watched; owners of others are read when somebody asks."""

Kind = tuple[str, str]
"""API version and kind."""


class ThirdParties:
    """``changed`` is called when one of them has gone."""

    def __init__(self, api: Api, changed: Callable[[], None]) -> None:
        self._api = api
        self._changed = changed
        self._kinds: dict[Kind, Collection[str]] = {}
        self._new = asyncio.Event()

    async def run(self) -> None:
        """Watch the kinds that were asked about, until cancelled."""
        async with asyncio.TaskGroup() as group:
            watched: set[Kind] = set()
            while True:
                self._new.clear()
                for kind in [one for one in self._kinds if one not in watched][:KINDS_MAX]:
                    if len(watched) < KINDS_MAX:
                        watched.add(kind)
                        group.create_task(self._kinds[kind].run())
                await self._new.wait()

    async def find(self, key: ApplicationKey) -> MissingOwner:
        """Whether it is gone; it is Missing in any case, since nobody can tell what it wants."""
        where = key.namespace, key.name
        try:
            found = await self._collection((key.api_version, key.kind))
        except ApiError as error:
            return MissingOwner(certain=False, why=f"{key.kind} objects cannot be found: {error}")
        if found is None:
            return MissingOwner(certain=False, why=f"the API server has no kind {key.kind}")
        if found.fault or where not in found.seen.objects:
            answer = (await found.ask([where]))[where]
            if isinstance(answer, MissingOwner):
                return answer
        why = f"{key.kind} {key.namespace}/{key.name} is a third party: its Pods tell what it wants"
        return MissingOwner(certain=False, why=why)

    async def _collection(self, kind: Kind) -> Collection[str] | None:
        """Objects of a kind; None where the API server does not have it. Raises ApiError."""
        known = self._kinds.get(kind)
        if known is not None:
            return known
        served = await served_kind(self._api, *kind)
        if served is None or not served.namespaced:
            return None
        found = Collection(self._api, kind[1], served.collection, _uid)
        found.seen.add_handler(self._on_change)
        self._new.set()
        return self._kinds.setdefault(kind, found)

    def _on_change(self, change: Transition[str]) -> None:
        if change.before is not None and change.before != change.after:
            self._changed()


def _uid(one: Object) -> str:
    uid: str = one["metadata"]["uid"]
    return uid
