"""A log in the etcd of an API server, and a translator that tests start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from core.domain.evolution import Ledger
from core.eventstore.election import LeaderTerm
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.process.concurrency import until_first
from core.projections.projector import Projector
from ops.kubernetes.kubernetes_host import KubernetesHost
from ops.kubernetes.settings import KubernetesSettings
from tests.kubernetes.objects import Object, get
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import NodeHarness

T = TypeVar("T")
WAIT_S_MAX = 60.0
_numbers = itertools.count()


class TranslatorHarness:
    """A translator that runs between ``start`` and ``stop``, and one node's agent without sockets.

    ``translates``: whether entering the context starts the translator.
    """

    def __init__(
        self,
        server: ApiServer,
        settings: KubernetesSettings | None = None,
        *,
        translates: bool = True,
    ) -> None:
        self._translates = translates
        self.server = server
        self.settings = settings or KubernetesSettings(str(server.kubeconfig))
        self.store = EtcdStore(EtcdSettings(server.etcd_endpoints))
        self.node = NodeHarness(
            self.store, cluster=f"kubernetes-{next(_numbers)}-{time.time_ns():x}", cool_down_s=0
        )
        self.keys = self.node.keys
        self.term: LeaderTerm | None = None
        self.host: KubernetesHost
        self.projector: Projector
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.node.__aenter__()
        if self._translates:
            self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        await self.node.__aexit__(kind, error, trace)
        await self.store.close()

    @property
    def ledger(self) -> Ledger:
        """The content of the translator's projection."""
        return self.projector.projection.ledger

    def start(self) -> None:
        """Start a translator, as a new leader does."""
        self.projector = Projector(self.store, self.keys)
        self.host = KubernetesHost(
            self.settings, self.store, self.keys, self.projector, "controller-0"
        )
        runs = self.projector.run(), self.host.run(self.term)
        self._running = asyncio.ensure_future(until_first(*runs))

    async def stop(self) -> None:
        """Cancel the translator, whatever it does at that time."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def leave_running(self) -> asyncio.Task[None]:
        """Return the current translator and no longer manage it."""
        running, self._running = self._running, None
        assert running is not None
        return running

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds. Raises the failure of a translator."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not condition():
            if self._running is not None and self._running.done():
                self._running.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition does not hold after {WAIT_S_MAX:g} s")
            await asyncio.sleep(0.02)

    async def until_idle(self) -> None:
        """Wait until translator and reporter have nothing left to do."""

        def is_idle() -> bool:
            translator, reporter = self.host.translator, self.host.reporter
            if translator is None or reporter is None:
                return False
            rest = reporter.pending
            waits = rest.pools or rest.subnets or rest.endpoints
            return translator.idle and reporter.idle and not waits

        await self.until(is_idle)

    async def until_condition(self, kind: str, name: str, type_: str, status: str) -> Object:
        """Wait for a condition of an object, and return it."""
        return await until_condition(self.server, kind, name, type_, status)


async def until(holds: Callable[[], T]) -> T:
    """Wait until ``holds`` returns a true value; return the value. ``holds`` may block."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.02)
    return found


async def until_condition(
    server: ApiServer, kind: str, name: str, type_: str, status: str
) -> Object:
    """Wait for a condition about the present generation of an object, and return it."""
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        stored = get(server, kind, name)
        for matching in stored.get("status", {}).get("conditions", []):
            is_new = matching["observedGeneration"] == stored["metadata"]["generation"]
            if is_new and (matching["type"], matching["status"]) == (type_, status):
                found: Object = matching
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{kind}/{name} is not {type_}={status}: {stored.get('status')}")
        await asyncio.sleep(0.02)


def events_about(server: ApiServer, name: str) -> list[dict[str, Any]]:
    """The Events about a cluster-scoped object."""
    found = server.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events").body["items"]
    return [stored for stored in found if stored["regarding"]["name"] == name]
