"""An event log in memory with the GUIDs of two nodes."""

from __future__ import annotations

from core.allocation.guid_registry import GuidRegistry
from core.audit.event_summary import summary_of
from core.domain.events import Cause
from core.eventstore.codec import decode_segment
from core.eventstore.kv import Get
from nodeagent.sriov.guid_keeper import GuidKeeper
from tests.core.eventstore.writer_harness import WriterHarness


class GuidLog:
    """The log of node-1 and node-2; call ``open`` first."""

    def __init__(self) -> None:
        self.harness = WriterHarness()
        self._writers = {name: self.harness.new_writer(name) for name in ("node-1", "node-2")}

    async def open(self) -> None:
        for writer in self._writers.values():
            await writer.open()

    def registry(self, node: str) -> GuidRegistry:
        harness, cause = self.harness, Cause(f"agent/{node}")
        return GuidRegistry(harness.store, harness.keys, self._writers[node], node, cause)

    def keeper(self, node: str = "node-1") -> GuidKeeper:
        return GuidKeeper(self.registry(node))

    async def events(self) -> list[str]:
        """A line for each event: type, node and GUIDs."""
        keys = self.harness.keys
        log = (await self.harness.memory.read([Get(*keys.range_of("log"))])).ranges[0].kvs
        events = [
            event
            for kv in sorted(log, key=lambda kv: kv.mod_revision)
            for event in decode_segment(kv.value, writer="", position=kv.mod_revision)
        ]
        summaries = map(summary_of, events)
        return [f"{summary.type} {summary.subject}: {summary.detail}" for summary in summaries]
