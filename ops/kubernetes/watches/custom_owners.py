"""Checks whether third parties exist: custom resources that own Pods.

The automatic pools of a third party are deleted with it. They are kept if the controller may not
read its kind. A kind is watched after its first ``find``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from core.domain.autopools.pool_names import ApplicationKey
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.errors import ApiError
from core.kubernetes.api_client import Api, Object, served_kind
from core.kubernetes.informer import Transition
from ops.kubernetes.watches.collection import Collection

KINDS_MAX: Final = 32
"""The largest number of watched kinds; other kinds are read when needed."""

Kind = tuple[str, str]
"""API version and kind."""


class ThirdParties:
    """Watches and reads third parties; calls ``changed`` after the deletion of one."""

    def __init__(self, api: Api, changed: Callable[[], None]) -> None:
        self._api = api
        self._changed = changed
        self._kinds: dict[Kind, Collection[str]] = {}
        self._kind_added = asyncio.Event()

    async def run(self) -> None:
        """Watch the requested kinds until cancelled."""
        async with asyncio.TaskGroup() as group:
            watched: set[Kind] = set()
            while True:
                self._kind_added.clear()
                for kind in [kind for kind in self._kinds if kind not in watched][:KINDS_MAX]:
                    if len(watched) < KINDS_MAX:
                        watched.add(kind)
                        group.create_task(self._kinds[kind].run())
                await self._kind_added.wait()

    async def find(self, key: ApplicationKey) -> MissingOwner:
        """Find out whether a third party exists; ``certain`` means that it does not.

        For an existing third party the answer is a MissingOwner too, because its object does not
        have the number of Pods.
        """
        object_key = key.namespace, key.name
        try:
            collection = await self._collection((key.api_version, key.kind))
        except ApiError as error:
            return MissingOwner(certain=False, why=f"{key.kind} objects cannot be found: {error}")
        if isinstance(collection, str):
            return MissingOwner(certain=False, why=collection)
        if collection.fault or object_key not in collection.seen.objects:
            answer = (await collection.read([object_key]))[object_key]
            if isinstance(answer, MissingOwner):
                return answer
        why = f"{key.kind} {key.namespace}/{key.name} is a third party: only its Pods show its size"
        return MissingOwner(certain=False, why=why)

    async def _collection(self, kind: Kind) -> Collection[str] | str:
        """The objects of a kind, or why they cannot own Pods. Raises ApiError."""
        collection = self._kinds.get(kind)
        if collection is not None:
            return collection
        served = await served_kind(self._api, *kind)
        if served is None:
            return f"the API server has no kind {kind[1]}"
        if not served.namespaced:
            return f"the kind {kind[1]} is not namespaced: its objects cannot be in a namespace"
        collection = Collection(self._api, kind[1], served.collection, _uid)
        collection.seen.add_handler(self._on_change)
        self._kind_added.set()
        return self._kinds.setdefault(kind, collection)

    def _on_change(self, change: Transition[str]) -> None:
        if change.before is not None and change.before != change.after:
            self._changed()


def _uid(body: Object) -> str:
    uid: str = body["metadata"]["uid"]
    return uid
