"""A translator that tests start and stop, with its event log.

The translator is the part of a controller that turns custom resources into events, and reports the
result in the status of each resource. Each harness has a separate log in the etcd of the API
server.
"""

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
    """A translator, and the address allocation of one node without an agent process.

    ``__aenter__`` starts the translator if ``translates`` is true. The translator works in the
    leader's term ``term``, or without an election if ``term`` is None.
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
            self.start_translator()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_translator()
        await self.node.__aexit__(kind, error, trace)
        await self.store.close()

    @property
    def ledger(self) -> Ledger:
        return self.projector.projection.ledger

    def start_translator(self) -> None:
        self.projector = Projector(self.store, self.keys)
        self.host = KubernetesHost(
            self.settings, self.store, self.keys, self.projector, "controller-0"
        )
        coroutines = self.projector.run(), self.host.run(self.term)
        self._running = asyncio.ensure_future(until_first(*coroutines))

    async def stop_translator(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def refresh_node_view(self) -> None:
        await self.node.view.freshen()

    def detach_task(self) -> asyncio.Task[None]:
        """Return the task of the translator; ``stop_translator`` no longer stops it."""
        running, self._running = self._running, None
        assert running is not None
        return running

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition()`` is true; raise the error of a failed translator."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not condition():
            if self._running is not None and self._running.done():
                self._running.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition does not hold after {WAIT_S_MAX:g} s")
            await asyncio.sleep(0.02)

    async def until_idle(self) -> None:
        """Wait until the translator and the reporter of statuses have no work left."""

        def is_idle() -> bool:
            translator, reporter = self.host.translator, self.host.reporter
            if translator is None or reporter is None:
                return False
            pending = reporter.pending
            has_pending = pending.pools or pending.subnets or pending.endpoints
            return translator.idle and reporter.idle and not has_pending

        await self.until(is_idle)

    async def until_condition(self, kind: str, name: str, type_: str, status: str) -> Object:
        return await until_condition(self.server, kind, name, type_, status)


async def until(holds: Callable[[], T]) -> T:
    """Run ``holds`` in a thread until it returns a true value; return the value."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.02)
    return found


async def until_condition(
    server: ApiServer, kind: str, name: str, type_: str, status: str
) -> Object:
    """Wait until the object's current generation has this condition; return the condition."""
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        stored = get(server, kind, name)
        conditions: list[Object] = stored.get("status", {}).get("conditions", [])
        for condition in conditions:
            is_current = condition["observedGeneration"] == stored["metadata"]["generation"]
            if is_current and (condition["type"], condition["status"]) == (type_, status):
                return condition
        if time.monotonic() > deadline:
            raise TimeoutError(f"{kind}/{name} is not {type_}={status}: {stored.get('status')}")
        await asyncio.sleep(0.02)


def events_about(server: ApiServer, name: str) -> list[dict[str, Any]]:
    found = server.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events").body["items"]
    return [stored for stored in found if stored["regarding"]["name"] == name]
