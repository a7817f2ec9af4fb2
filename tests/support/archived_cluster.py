"""Clusters of two nodes with an archive of their log, and random actions for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from core.archive.archive_directory import Files, LocalFiles
from core.archive.archiver import Archiver
from core.archive.replay import LogView, open_log
from core.domain.configuration.commands import (
    ApplyRecord,
    ApplyReservation,
    Command,
    DeletePool,
    DeleteReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.events import RecordDefined, Recorded
from core.domain.evolution import Ledger
from core.domain.model import FixedKind, Reservation
from core.errors import OrbweaverError
from core.eventstore.codec import HEAD_CODEC, WriterHead
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import Get, KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer, unix_ms
from tests.support.node_harness import NodeHarness, pod, pool

NODES = ("node-a", "node-b")
TEST_KEYS = Keys("test")


class CniAdd(NamedTuple):
    """A CNI ADD for a Pod of namespace ``shop`` with the UID ``NAME-GENERATION``."""

    node: str
    name: str
    generation: int = 0
    of_statefulset: bool = False


class CniDel(NamedTuple):
    """A CNI DEL on the node of the Pod's endpoint, or on ``node`` if the Pod has none."""

    node: str
    name: str
    generation: int = 0


class Configure(NamedTuple):
    command: Command


Action = CniAdd | CniDel | Configure

_names = st.sampled_from([f"web-{number}" for number in range(5)])
_nodes = st.sampled_from(NODES)
_addresses = st.sampled_from([f"10.6.0.{number}" for number in range(1, 10)])
_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(QuarantineAddress, _addresses, st.just("another host answered"), st.just("02:00:01")),
    st.builds(LiftQuarantine, _addresses),
    st.builds(lambda address: ApplyReservation(Reservation("dns", 4, (address,))), _addresses),
    st.just(DeleteReservation("dns")),
    st.builds(lambda name: ApplyRecord(RecordDefined("Node", "", name)), _nodes),
    st.just(RetirePool("spare")),
    st.just(DeletePool("spare")),
)
_cni_adds = st.builds(CniAdd, _nodes, _names, st.integers(0, 1), st.booleans())
_cni_dels = st.builds(CniDel, _nodes, _names, st.integers(0, 1))
# _cni_adds occurs twice, so that half of the actions are ADDs.
actions: st.SearchStrategy[Action] = st.one_of(
    _cni_adds, _cni_adds, _cni_dels, st.builds(Configure, _commands)
)
action_lists = st.lists(actions, min_size=8, max_size=25)


class ArchivedCluster:
    """Two nodes and the archive of their log; all use the clock ``now_ms``."""

    def __init__(self, store: KeyValueStore, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.files = LocalFiles(directory)
        self.nodes = {name: NodeHarness(store, name, cool_down_s=0) for name in NODES}
        self.now_ms = unix_ms
        for node in self.nodes.values():
            node.writer._now_ms = self._now

    def _now(self) -> int:
        return self.now_ms()

    @property
    def node(self) -> NodeHarness:
        return self.nodes[NODES[0]]

    async def execute(self, actions: Sequence[Action]) -> None:
        """Execute the actions; ignore refusals."""
        for action in actions:
            with contextlib.suppress(OrbweaverError):
                await self._execute_action(action)

    async def seal(
        self, upto: int | None = None, *, file_bytes_max: int = 1 << 20, files: Files | None = None
    ) -> int:
        """Seal segments up to a revision into the archive; return the number of files written."""
        archiver = Archiver(
            self.store,
            TEST_KEYS,
            files or self.files,
            file_bytes_max=file_bytes_max,
            now_ms=self.now_ms,
        )
        return (await archiver.seal(upto)).files

    async def view(self) -> LogView:
        return await open_log(self.store, TEST_KEYS, self.files, now_ms=self.now_ms)

    async def replayed(self) -> list[Recorded]:
        return [event async for batch in (await self.view()).events() for event in batch]

    async def commit_undecodable_segment(self) -> int:
        """Commit a segment of a new writer; return the segment's revision."""
        head = HEAD_CODEC.encode(WriterHead(1, 1))
        writes = [Put(TEST_KEYS.log("ghost", 1), b"\xff"), Put(TEST_KEYS.head("ghost"), head)]
        await self.store.commit([], writes)
        (kv,) = (await self.store.read([Get(TEST_KEYS.log("ghost", 1))])).ranges[0].kvs
        return kv.mod_revision

    async def live_segments(self) -> int:
        response = await self.store.read([Get(*TEST_KEYS.range_of("log"), count_only=True)])
        return response.ranges[0].count

    async def _execute_action(self, action: Action) -> None:
        match action:
            case CniAdd(node, name, generation, of_statefulset):
                kind: FixedKind | None = "statefulset" if of_statefulset else None
                pod_facts = pod(name, f"{name}-{generation}", node=node, fixed=kind)
                await self.nodes[node].add(pod_facts)
            case CniDel(node, name, generation):
                endpoint = (await self.node.read_ledger()).endpoints.get(("shop", name))
                runs_on = node if endpoint is None else endpoint.node
                await self.nodes[runs_on].delete(pod(name, f"{name}-{generation}", node=runs_on))
            case Configure(command):
                await self.node.apply(command)


@asynccontextmanager
async def archived_cluster(
    directory: Path, store: KeyValueStore | None = None
) -> AsyncIterator[ArchivedCluster]:
    """Run a cluster with three unused pools: ``main``, ``spare`` and ``six``."""
    cluster = ArchivedCluster(MemoryStore() if store is None else store, directory)
    async with contextlib.AsyncExitStack() as stack:
        for node in cluster.nodes.values():
            await stack.enter_async_context(node)
        await cluster.node.apply(pool("main", "10.6.0.1-10.6.0.6"))
        await cluster.node.apply(pool("spare", "10.6.0.7-10.6.0.9", default=False))
        await cluster.node.apply(pool("six", "fd00:6::1-fd00:6::5"))
        yield cluster


@asynccontextmanager
async def orbctl_writer(cluster: ArchivedCluster) -> AsyncIterator[Writer]:
    writer = Writer(cluster.store, TEST_KEYS, controller_writer("orbctl-0"))
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


def have_same_content(first: Ledger, second: Ledger) -> bool:
    """Whether two ledgers are equal apart from ``position``."""
    parts = [part for part in Ledger.__slots__ if part != "position"]
    return all(getattr(first, part) == getattr(second, part) for part in parts)
