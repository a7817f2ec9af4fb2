"""Which probing executions there must be: one for every address set aside because of a stranger.

Pure. An address that a person has set aside has none: only a person lifts it.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.projections.fold import Projection
from workflows.jobs.noticing import Notice
from workflows.jobs.quarantine.probe import LOOK, ProbeQuarantine, Suspect, probe_id


def quarantine_notices(projection: Projection) -> Iterator[Notice]:
    """An execution for each, told when the stranger is another one."""
    for address, one in projection.ledger.quarantine.items():
        if one.stranger is not None:
            suspect = Suspect(address, one.stranger)
            yield Notice(ProbeQuarantine, probe_id(address), (suspect,), LOOK, one.stranger)
