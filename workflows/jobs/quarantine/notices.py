"""The required probes: one for every address that is quarantined for a conflicting host. Pure.

An address that a person has quarantined has none: only a person lifts that quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.projections.fold import Projection
from workflows.jobs.quarantine.probe import CHECK, ProbeQuarantine, QuarantinedAddress, probe_id
from workflows.jobs.required_executions import RequiredExecution


def quarantine_notices(projection: Projection) -> Iterator[RequiredExecution]:
    """An execution for each, which is signalled when the conflicting host changes."""
    for address, quarantine in projection.ledger.quarantine.items():
        if quarantine.conflicting_host is not None:
            host = quarantine.conflicting_host
            arguments = (QuarantinedAddress(address, host),)
            yield RequiredExecution(ProbeQuarantine, probe_id(address), arguments, CHECK, host)
