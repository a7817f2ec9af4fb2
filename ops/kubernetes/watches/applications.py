"""The source of automatic pools in a cluster: applications of the six kinds, and third parties.

Whoever leads watches them; whoever reconciles the pools of one application reads that one. After
any downtime everything is listed, so what was created, scaled or deleted meanwhile differs from its
pools and is looked at. Gone is only what the API server says is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from core.domain.autopools.applications import BUILT_IN, PARENTS, Application, is_built_in
from core.domain.autopools.names import ApplicationKey
from core.domain.fixed.owners import MissingOwner
from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Transition
from core.kubernetes.workloads.applications import COLLECTIONS, application_of
from core.process.concurrency import until_all
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.custom_owners import ThirdParties

LISTED_S_MAX: Final = 10.0
"""How long ``listed`` waits for kinds that cannot be listed, as those that we may not."""

UNKNOWN_S: Final = 5.0
"""For so long an application about which nobody could tell is not asked about again."""

UNKNOWN_MAX: Final = 10_000


class KubernetesApplications:
    """An ``ApplicationsSource``; ``run`` keeps ``known`` up to date."""

    def __init__(self, api: Api, *, steady_s: Callable[[], float] = time.monotonic) -> None:
        self.kinds = {
            kind: Collection(api, kind, _path(kind), partial(_own, kind)) for kind in COLLECTIONS
        }
        for each in self.kinds.values():
            each.seen.add_handler(self._on_change)
        self._third_parties = ThirdParties(api, self._note_change)
        self._known: dict[ApplicationKey, Application] = {}
        self._unknown: dict[ApplicationKey, tuple[float, MissingOwner]] = {}
        self._steady_s = steady_s
        self._news = asyncio.Event()
        self._is_asking_again = False

    @property
    def fault(self) -> str:
        """Why it may not know what there is; "" when all is well."""
        return next((each.fault for each in self.kinds.values() if each.fault), "")

    async def run(self) -> None:
        """Watch until cancelled."""
        works = [each.run() for each in self.kinds.values()]
        await until_all(*works, self._third_parties.run())

    async def listed(self) -> None:
        """See ``ApplicationsSource``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTED_S_MAX):
                for each in self.kinds.values():
                    await each.seen.listed.wait()

    def known(self) -> Mapping[ApplicationKey, Application]:
        """See ``ApplicationsSource``: as they were last seen."""
        return self._known

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """See ``ApplicationsSource``: as the API server says now."""
        until_s, unknown = self._unknown.get(key, (0.0, None))
        if unknown is not None and self._steady_s() < until_s:
            return unknown
        found = await self._ask(key)
        if isinstance(found, MissingOwner) and not found.certain:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[key] = self._steady_s() + UNKNOWN_S, found
            if is_built_in(key) and not self._is_asking_again:
                self._is_asking_again = True
                asyncio.get_running_loop().call_later(UNKNOWN_S, self._ask_again)
        else:
            self._unknown.pop(key, None)
        return found

    async def changed(self) -> None:
        """See ``ApplicationsSource``."""
        await self._news.wait()
        self._news.clear()

    async def _ask(self, key: ApplicationKey) -> Application | MissingOwner:
        if not is_built_in(key):
            return await self._third_parties.find(key)
        where = key.namespace, key.name
        found = (await self.kinds[key.kind].ask([where]))[where]
        if found is None:  # its controller is the application in its place
            return MissingOwner(
                certain=False, why=f"{key.kind} {'/'.join(where)} belongs to another"
            )
        return found

    def _ask_again(self) -> None:
        """Somebody may be able to tell by now."""
        self._is_asking_again = False
        self._news.set()

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
        self._news.set()


def _path(kind: str) -> str:
    return f"/apis/{BUILT_IN[kind]}/{COLLECTIONS[kind]}"


def _own(kind: str, one: Object) -> Application | None:
    """None for what is made by an application that is known itself: old ReplicaSets are many."""
    found = application_of(kind, one)
    return None if PARENTS.get(kind) == found.controller else found
