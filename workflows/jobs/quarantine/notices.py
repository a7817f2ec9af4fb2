"""Which probing executions there must be: one for every address set aside because of a stranger.

Pure. An address that a person has set aside has none: only a person lifts it.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.projections.fold import Projection
from workflows.jobs.quarantine.probe import LOOK, ProbeQuarantine, QuarantinedAddress, probe_id
from workflows.jobs.required_executions import RequiredExecution


def quarantine_notices(projection: Projection) -> Iterator[RequiredExecution]:
    """An execution for each, told when the stranger is another one."""
    for address, one in projection.ledger.quarantine.items():
        if one.conflicting_host is not None:
            suspect = QuarantinedAddress(address, one.conflicting_host)
            yield RequiredExecution(
                ProbeQuarantine, probe_id(address), (suspect,), LOOK, one.conflicting_host
            )
