"""The agent's writer: a ``Writer`` that reports its fence, and whose appends are spans.

It changes nothing about what is written.
"""

from __future__ import annotations

from collections.abc import Callable

from core.errors import WriterFenced
from core.store.batch import Proposal
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.pump import Outcome
from core.store.writer import Writer
from nodeagent.telemetry.tracing import Tracer


class NodeWriter(Writer):
    """``on_fenced`` is told whenever an append fails because another process has the name."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        name: str,
        tracer: Tracer | None,
        on_fenced: Callable[[WriterFenced], None],
    ) -> None:
        super().__init__(store, keys, name)
        self._tracer = tracer
        self._on_fenced = on_fenced

    async def append(self, proposal: Proposal) -> Outcome:
        """See ``Writer``."""
        try:
            if self._tracer is None:
                return await super().append(proposal)
            return await self._traced(self._tracer, proposal)
        except WriterFenced as error:
            self._on_fenced(error)
            raise

    async def _traced(self, tracer: Tracer, proposal: Proposal) -> Outcome:
        """The span lasts from the queue to etcd's answer: what the request waits for."""
        with tracer.step("etcd.txn") as span:
            span.set_attribute("db.system.name", "etcd")
            span.set_attribute("ipam.events", len(proposal.drafts))
            outcome = await super().append(proposal)
            span.set_attribute("ipam.outcome", type(outcome).__name__.lower())
            span.set_attribute("ipam.revision", outcome.revision)
            return outcome
