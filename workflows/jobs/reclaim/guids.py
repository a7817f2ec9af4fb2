"""Releases the GUIDs of deleted nodes, as a part of each reclaim scan.

A node releases its GUIDs itself, unless it was deleted. One process must observe twice,
``OBSERVATION_GAP_S`` apart, that the API server has no such Node (I6); a process that takes over
observes anew. A failure is logged, and the next scan retries.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

import logging
from typing import Final

from core.domain.evolution import Ledger
from core.domain.reclaim.evidence import OBSERVATION_GAP_S, Moment
from core.errors import OrbweaverError
from workflows.jobs.reclaim.context import ReclaimContext

_log: Final = logging.getLogger(__name__)


class GuidReclaim:
    """The missing nodes, with the first observation of each."""

    def __init__(self) -> None:
        self._missing: dict[str, Moment] = {}

    async def release(self, context: ReclaimContext, ledger: Ledger, read_at: Moment) -> float:
        """Release the GUIDs that are due. Returns when another scan may release more.

        ``read_at``: when the ledger was read. Returns Unix seconds, 0: no further scan is needed.
        """
        nodes = {claim.node for claim in ledger.guids.values()}
        missing = await context.facts.deleted_nodes(nodes) if nodes else frozenset()
        first = {node: self._missing.get(node, read_at) for node in missing}
        self._missing = {
            node: read_at if read_at.is_before(moment) else moment for node, moment in first.items()
        }
        next_scan_s = 0.0
        for node, moment in sorted(self._missing.items()):
            if read_at.since(moment) < OBSERVATION_GAP_S:
                next_scan_s = read_at.unix_s + OBSERVATION_GAP_S
            else:
                await self._release(context, node)
        return next_scan_s

    async def _release(self, context: ReclaimContext, node: str) -> None:
        try:
            count = await context.releases.release_guids(node)
        except OrbweaverError as error:
            _log.warning("cannot release the GUIDs of the deleted node %s: %s", node, error)
        else:
            _log.info("released %d GUIDs of node %s, which was deleted", count, node)
