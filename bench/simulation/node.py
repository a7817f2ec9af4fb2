"""One simulated node: an etcd connection, a writer, an allocator, and a view.

The view is the node's copy of the configuration.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from bench.simulation.plan import facts_of, node_name
from core.allocation.add_request import AddRequest
from core.domain.events import Cause
from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.domain.selection.selection_request import SelectionRequest
from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.node_harness import NodeHarness, addresses

INTERFACE: Final = "eth0"
ACTOR: Final = "agent/simulated"


class AddResult(NamedTuple):
    """The result of one ADD. ``failure``: the error, or "". ``ended``: monotonic time."""

    addresses: tuple[str, ...]
    failure: str
    tries: int
    latency_s: float
    ended: float


class SimulatedNode:
    """One node. Times are of the monotonic clock, which all processes share."""

    def __init__(self, endpoint: str, cluster: str, number: int) -> None:
        self.number = number
        self.updates: list[tuple[float, int]] = []
        """The time and the etcd revision of each update of the view."""

        self._store = EtcdStore(EtcdSettings((endpoint,)))
        self._node = NodeHarness(self._store, node_name(number), cluster=cluster)
        self._update_recorder: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start; return when the node is ready."""
        await self._node.__aenter__()
        self._update_recorder = asyncio.create_task(self._record_updates())

    async def close(self) -> None:
        """Stop without releasing an address, as after a power failure."""
        if self._update_recorder is not None:
            self._update_recorder.cancel()
        await self._node.view.close()
        await self._store.close()

    @property
    def revision(self) -> int:
        """The newest revision in ``updates``, or 0."""
        return self.updates[-1][1] if self.updates else 0

    @property
    def transactions(self) -> int:
        """The number of the writer's transactions."""
        return self._node.writer.transactions

    def pool_revisions(self) -> set[int]:
        """The revisions of all pools in the view."""
        return {pool.revision for pool in self._node.view.current.pools.values()}

    async def start_pods(self, first: int, count: int) -> list[AddResult]:
        """Start ``count`` Pods concurrently."""
        serials = range(first, first + count)
        return list(await asyncio.gather(*(self._start_pod(serial) for serial in serials)))

    async def _start_pod(self, serial: int) -> AddResult:
        facts = facts_of(self.number, serial)
        namespace, name, uid = facts.pod.namespace, facts.pod.name, facts.pod.uid
        attachment = Attachment(f"box-{uid}", INTERFACE, "lan", "/run/netns/box")
        pod = PodReference(namespace, name, uid, attachment.container)
        request = AddRequest(pod, attachment, SelectionRequest(INTERFACE), Cause(ACTOR))
        began = time.monotonic()
        try:
            added = await self._node.allocate(request, facts)
        except Exception as error:  # noqa: BLE001  # the Pod did not start
            ended = time.monotonic()
            return AddResult((), repr(error), tries=0, latency_s=ended - began, ended=ended)
        ended = time.monotonic()
        return AddResult(
            tuple(addresses(added)), "", added.tries, latency_s=ended - began, ended=ended
        )

    async def _record_updates(self) -> None:
        view = self._node.view
        shown = view.current
        while True:
            shown = await view.next_snapshot(shown)
            self.updates.append((time.monotonic(), shown.revision))
