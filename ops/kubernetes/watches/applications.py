"""The applications that can have automatic pools: workloads, and owners of custom kinds.

An application counts as deleted only if a read of the API server does not find it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from core.domain.autopools.applications import BUILT_IN, PARENT_KINDS, Application, is_built_in
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Transition
from core.kubernetes.workloads.applications import COLLECTION_NAMES, application_of
from core.process.concurrency import until_all
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.custom_owners import ThirdParties

LISTED_S_MAX: Final = 10.0
"""``listed`` waits at most this long, because forbidden kinds are never listed."""

UNKNOWN_S: Final = 5.0
"""The pause before an application that could not be read is read again."""

UNKNOWN_MAX: Final = 10_000


class KubernetesApplications:
    """The source of the cluster's applications; ``run`` keeps ``known`` up to date."""

    def __init__(self, api: Api, *, steady_s: Callable[[], float] = time.monotonic) -> None:
        self.kinds = {
            kind: Collection(api, kind, _path(kind), partial(_top_level, kind))
            for kind in COLLECTION_NAMES
        }
        for collection in self.kinds.values():
            collection.seen.add_handler(self._on_change)
        self._third_parties = ThirdParties(api, self._note_change)
        self._known: dict[ApplicationKey, Application] = {}
        # application that could not be read -> (time to read it again, the answer until then)
        self._unknown: dict[ApplicationKey, tuple[float, MissingOwner]] = {}
        self._steady_s = steady_s
        self._changed = asyncio.Event()
        self._is_retry_scheduled = False

    @property
    def fault(self) -> str:
        """Why ``known`` may be incomplete or stale, or ""."""
        return next(
            (collection.fault for collection in self.kinds.values() if collection.fault), ""
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        watches = [collection.run() for collection in self.kinds.values()]
        await until_all(*watches, self._third_parties.run())

    async def listed(self) -> None:
        """Return when all kinds were listed, or after ``LISTED_S_MAX``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTED_S_MAX):
                for collection in self.kinds.values():
                    await collection.seen.listed.wait()

    def listed_kinds(self) -> set[str]:
        """The kinds of which ``known`` has all applications."""
        return {kind for kind, collection in self.kinds.items() if collection.seen.listed.is_set()}

    def known(self) -> Mapping[ApplicationKey, Application]:
        """The watched applications. An unchanged application keeps its Python object."""
        return self._known

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """Read an application from the API server; repeat no failed read within ``UNKNOWN_S``."""
        until_s, unknown = self._unknown.get(key, (0.0, None))
        if unknown is not None and self._steady_s() < until_s:
            return unknown
        answer = await self._read(key)
        if isinstance(answer, MissingOwner) and not answer.certain:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[key] = self._steady_s() + UNKNOWN_S, answer
            if is_built_in(key) and not self._is_retry_scheduled:
                self._is_retry_scheduled = True
                asyncio.get_running_loop().call_later(UNKNOWN_S, self._retry)
        else:
            self._unknown.pop(key, None)
        return answer

    async def changed(self) -> None:
        """Return once ``known`` has changed, or an application may be readable again."""
        await self._changed.wait()
        self._changed.clear()

    async def _read(self, key: ApplicationKey) -> Application | MissingOwner:
        if not is_built_in(key):
            return await self._third_parties.find(key)
        object_key = key.namespace, key.name
        answer = (await self.kinds[key.kind].read([object_key]))[object_key]
        if answer is None:  # another application controls this object
            why = f"{key.kind} {'/'.join(object_key)} belongs to another application"
            return MissingOwner(certain=False, why=why)
        return answer

    def _retry(self) -> None:
        self._is_retry_scheduled = False
        self._changed.set()

    def _on_change(self, change: Transition[Application | None]) -> None:
        before, after = change.before, change.after
        if before == after:
            return
        if before is not None:
            del self._known[before.key]
        if after is not None:
            self._known[after.key] = after
        self._note_change()

    def _note_change(self) -> None:
        self._unknown.clear()
        self._changed.set()


def _path(kind: str) -> str:
    return f"/apis/{BUILT_IN[kind]}/{COLLECTION_NAMES[kind]}"


def _top_level(kind: str, body: Object) -> Application | None:
    """The application; None for a controlled object, such as the ReplicaSet of a Deployment."""
    application = application_of(kind, body)
    return None if PARENT_KINDS.get(kind) == application.controller else application
