"""Nodes on one store: each has the real services of an agent, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added, Allocator, AllocatorSettings
from core.allocation.cooldown import CoolDown
from core.allocation.releaser import Released, Releaser, ReleaseRequest
from core.configuration.configurator import Applied, Configurator
from core.domain.claims.claim_decisions import decide_release
from core.domain.configuration.commands import ApplyPool, Command
from core.domain.events import Cause, Recorded
from core.domain.evolution import Ledger
from core.domain.fixed.owner_validity import Validity
from core.domain.log_checker import Violation
from core.domain.model import Attachment, Endpoint, FixedKind, Owner, Pool
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.domain.selection.selection_request import SelectionRequest
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.state_reader import read_ledger
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationView
from nodeagent.handlers.add_handler import Allocate
from tests.support.checked_log import log_violations

TEST_CAUSE = Cause("test")


def pod(
    name: str,
    uid: str = "",
    *,
    node: str = "node-a",
    annotations: dict[str, str] | None = None,
    fixed: FixedKind | None = None,
    alive: bool | None = None,
) -> PodFacts:
    """A Pod of namespace ``shop``; the default UID is ``uid-NAME``."""
    owner = Owner("StatefulSet", name.rpartition("-")[0]) if fixed else None
    return PodFacts(
        "shop",
        name,
        uid or f"uid-{name}",
        node,
        annotations=annotations or {},
        owner=owner,
        alive=alive,
        fixed=fixed,
    )


def pool(name: str, *ips: str, subnet: str = "", default: bool = True) -> Pool:
    v6 = ":" in ips[0]
    net = subnet or ("fd00:6::/64" if v6 else "10.6.0.0/16")
    return Pool(name, 6 if v6 else 4, net, ips, default=default)


class NodeHarness:
    """A node: a writer and the services that use it."""

    def __init__(
        self,
        store: KeyValueStore,
        name: str = "node-a",
        *,
        cluster: str = "test",
        settings: AllocatorSettings = AllocatorSettings(),
        cool_down_s: int = 30,
    ) -> None:
        self.name = name
        self.store = store
        self.keys = Keys(cluster)
        self.writer = Writer(store, self.keys, name)
        self.view = ConfigurationView(store, self.keys)
        self.cooldown = CoolDown(store, cool_down_s)
        self.releaser = Releaser(store, self.keys, self.writer, self.cooldown)
        self.configurator = Configurator(store, self.keys, self.writer)
        self.allocator = Allocator(
            store, self.keys, self.writer, self.view, self.releaser, self.cooldown, settings
        )
        self.allocate: Allocate = self.allocator.allocate  # called by ``add``; tests replace it

    async def __aenter__(self) -> Self:
        await self.writer.open()
        await self.view.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.view.close()
        await self.writer.close()

    async def apply(self, *commands: Command | Pool) -> list[Applied]:
        """Apply the commands (a pool with ``ApplyPool``), then refresh this node's view."""
        results = []
        for command in commands:
            as_command = ApplyPool(command) if isinstance(command, Pool) else command
            results.append(await self.configurator.apply(as_command, TEST_CAUSE))
        await self.view.freshen()
        return results

    async def add(
        self,
        pod_facts: PodFacts,
        interface: str = "eth0",
        *,
        container: str = "",
        request: SelectionRequest | None = None,
    ) -> Added:
        """Run an ADD; the default container id is ``box-UID``."""
        namespace, name, uid = pod_facts.namespace, pod_facts.name, pod_facts.uid
        facts = RequestFacts(
            pod_facts._replace(node=self.name), NamespaceFacts(namespace), NodeFacts(self.name)
        )
        container_id = container or f"box-{uid}"
        reference = PodReference(namespace, name, uid, container_id)
        selection = request or SelectionRequest(interface)
        add = AddRequest(reference, Attachment(container_id, interface), selection, TEST_CAUSE)
        return await self.allocate(add, facts)

    async def delete(
        self,
        pod_facts: PodFacts,
        interface: str = "eth0",
        *,
        container: str = "",
        validity_of: Callable[[Endpoint], Validity | None] = lambda _: None,
    ) -> Released:
        """Run a DEL.

        ``validity_of``: whether the owner of an endpoint's fixed addresses exists; None: the
        addresses are not fixed.
        """
        attachment = Attachment(container or f"box-{pod_facts.uid}", interface)
        return await self.releaser.release(
            pod_facts.endpoint_key,
            lambda endpoint: decide_release(
                endpoint,
                attachment,
                pod_facts.uid,
                alive=pod_facts.alive,
                validity=validity_of(endpoint),
                migrating=pod_facts.migrating,
            ),
            ReleaseRequest("deleted", "CNI DEL", TEST_CAUSE),
        )

    async def read_ledger(self) -> Ledger:
        return await read_ledger(self.store, self.keys)

    async def log(self) -> list[Recorded]:
        segments, _ = await LogReader(self.store, self.keys).catch_up(LOG_START)
        return [event for segment in segments for event in segment.events()]

    async def violations(self) -> list[Violation]:
        return list(log_violations(await self.log()))


def addresses(added: Added | Endpoint) -> set[str]:
    endpoint = added.endpoint if isinstance(added, Added) else added
    return {address for address, _ in endpoint.addresses()}


async def check_everything(node: NodeHarness) -> Ledger:
    """Check that the log keeps all invariants and folds to the state keys; return the ledger."""
    events = await node.log()
    assert list(log_violations(events)) == []
    replayed_ledger, ledger = Ledger().apply_all(events), await node.read_ledger()
    assert replayed_ledger.claims == ledger.claims
    assert replayed_ledger.endpoints == ledger.endpoints
    assert replayed_ledger.pools == ledger.pools
    assert replayed_ledger.subnets == ledger.subnets
    assert replayed_ledger.reservations == ledger.reservations
    assert replayed_ledger.quarantine == ledger.quarantine
    return ledger


async def gather_outcomes(*calls: object) -> list[object]:
    """Await the calls concurrently; return their results, and exceptions as values."""
    return list(await asyncio.gather(*calls, return_exceptions=True))  # type: ignore[call-overload]
