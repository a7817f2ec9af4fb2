"""One simulated node: an etcd connection, a writer, a view and an allocator, as in an agent.

The view is the node's copy of the configuration in etcd. The node records when its view reaches an
etcd revision, and returns the result of each ADD.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from bench.simulation.plan import facts_of, node_name
from core.allocation.add_request import AddRequest
from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.domain.selection.request import SelectionRequest
from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.node_harness import NodeHarness, addresses

INTERFACE: Final = "eth0"
ACTOR: Final = "agent/simulated"


class AddResult(NamedTuple):
    """The result of one ADD: addresses or failure, tries, duration in seconds, time of its end."""

    addresses: tuple[str, ...]
    failure: str
    tries: int
    seconds: float
    ended: float


class SimulatedNode:
    """Simulated node ``number``. Times are of the monotonic clock, which all processes share."""

    def __init__(self, endpoint: str, cluster: str, number: int) -> None:
        self.number = number
        self.updates: list[tuple[float, int]] = []
        """Times and revisions of the updates of the view."""

        self._store = EtcdStore(EtcdSettings((endpoint,)))
        self._node = NodeHarness(self._store, node_name(number), cluster=cluster)
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start as an agent does, until it is ready."""
        await self._node.__aenter__()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop without releasing an address, as after a power failure."""
        if self._following is not None:
            self._following.cancel()
        await self._node.view.close()
        await self._store.close()

    @property
    def revision(self) -> int:
        """The newest revision in ``updates``."""
        return self.updates[-1][1] if self.updates else 0

    @property
    def transactions(self) -> int:
        """Transactions of the writer."""
        return self._node.writer.transactions

    def pool_revisions(self) -> set[int]:
        """The revisions of all pools in the view."""
        return {pool.revision for pool in self._node.view.current.pools.values()}

    async def start_pods(self, first: int, count: int) -> list[AddResult]:
        """Start ``count`` Pods at once."""
        serials = range(first, first + count)
        return list(await asyncio.gather(*(self._start_pod(serial) for serial in serials)))

    async def _start_pod(self, serial: int) -> AddResult:
        facts = facts_of(self.number, serial)
        namespace, name, uid, *_ = facts.pod
        attachment = Attachment(f"box-{uid}", INTERFACE, "lan", "/run/netns/box")
        pod, cause = PodReference(namespace, name, uid, attachment.container), Cause(ACTOR)
        request = AddRequest(pod, attachment, SelectionRequest(INTERFACE), cause)
        began = time.monotonic()
        try:
            added = await self._node.allocate(request, facts)
        except Exception as error:  # noqa: BLE001  # any failure counts as a Pod that did not start
            ended = time.monotonic()
            return AddResult((), repr(error), 0, ended - began, ended)
        ended = time.monotonic()
        return AddResult(tuple(addresses(added)), "", added.tries, ended - began, ended)

    async def _follow(self) -> None:
        view = self._node.view
        shown = view.current
        while True:
            shown = await view.beyond(shown)
            self.updates.append((time.monotonic(), shown.revision))
