"""The writer of an agent that exports traces: each append is a span."""

from __future__ import annotations

from collections.abc import Callable

from core.errors import WriterFenced
from core.eventstore.batch import Proposal
from core.eventstore.group_commit import Outcome
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from nodeagent.telemetry.tracing import Tracer


class TracedWriter(Writer):
    """A ``Writer`` with a tracer."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        name: str,
        tracer: Tracer,
        on_fenced: Callable[[WriterFenced], None],
    ) -> None:
        super().__init__(store, keys, name, on_fenced=on_fenced)
        self._tracer = tracer

    async def append(self, proposal: Proposal) -> Outcome:
        """See ``Writer.append``. The span lasts from the queue to etcd's answer."""
        with self._tracer.step("etcd.txn") as span:
            span.set_attribute("db.system.name", "etcd")
            span.set_attribute("ipam.events", len(proposal.drafts))
            outcome = await super().append(proposal)
            span.set_attribute("ipam.outcome", type(outcome).__name__.lower())
            span.set_attribute("ipam.revision", outcome.revision)
            return outcome
