"""Whether this agent can serve: its writer is open, its view has caught up, etcd answers.

Promise: the answer for a request costs nothing, being what is known already; probes ask etcd, at
most once in a while. It judges this process alone, never a pool.
"""

from __future__ import annotations

from core.errors import NotReady, OrbweaverError
from core.projections.configuration_view import ConfigurationView
from core.store.writer import Writer


class Health:
    """Knows what is wrong."""

    def __init__(self, view: ConfigurationView, writer: Writer) -> None:
        self._view = view
        self._writer = writer

    def why_not_ready(self) -> OrbweaverError | None:
        """What keeps this agent from serving, None for nothing."""
        if not self._writer.epoch:
            return NotReady("the writer is not open yet", remedy="is etcd there?")
        if not self._view.ready:
            return NotReady("the configuration view has not caught up yet", remedy="is etcd there?")
        return None
