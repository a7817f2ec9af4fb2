"""Records the history of SpiderCoordinators in the event log. Agents read the API objects."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from core.domain.configuration.commands import ApplyRecord, Command, DeleteRecord
from core.domain.coordinators import COORDINATOR_KIND, Coordinator
from core.domain.events import RecordDefined
from core.errors import Refused
from core.kubernetes.api_client import Object
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.translator_commands import Commands

_log: Final = logging.getLogger(__name__)


class CoordinatorRecords:
    """Keeps a record of every SpiderCoordinator in the log."""

    def __init__(self, informer: Informer, commands: Commands) -> None:
        self._informer = informer
        self._commands = commands
        self._work: WorkQueue[ObjectKey] = WorkQueue(self._reconcile, "records of coordinators")
        informer.listen(self._work.add)

    async def run(self) -> None:
        """Record until cancelled. Raises LostRace when another controller leads."""
        await self._informer.listed.wait()
        records = self._commands.ledger.records
        recorded = [("", name) for kind, _, name in records if kind == COORDINATOR_KIND]
        self._work.add([*self._informer.objects, *recorded])
        await self._work.run(lambda: self._commands.overtaken)

    async def _reconcile(self, key: ObjectKey) -> None:
        _, name = key
        command = self._command(name)
        if command is None:
            return
        try:
            await self._commands.apply(command)
        except Refused as error:
            _log.warning("SpiderCoordinator %s is not recorded: %s", name, error)

    def _command(self, name: str) -> Command | None:
        body = self._informer.objects.get(("", name))
        if body is not None:
            return ApplyRecord(record_of(body))
        if (COORDINATOR_KIND, "", name) in self._commands.ledger.records:
            return DeleteRecord(COORDINATOR_KIND, "", name)
        return None


async def delete_coordinator_records(commands: Commands) -> None:
    """Delete all records of SpiderCoordinators, in a controller that does not watch them.

    Raises StoreError, NotReady, LostRace.
    """
    for kind, _, name in list(commands.ledger.records):
        if kind == COORDINATOR_KIND:
            await commands.apply(DeleteRecord(COORDINATOR_KIND, "", name))


def record_of(body: Object) -> RecordDefined:
    """The record of a SpiderCoordinator."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    coordinator = Coordinator(
        settings={
            name: msgspec.json.encode(value, order="sorted").decode()
            for name, value in sorted(spec.items())
        },
        phase=status.get("phase") or "",
        reason=status.get("reason") or "",
        overlay_pod_cidr=tuple(status.get("overlayPodCIDR") or ()),
        service_cidr=tuple(status.get("serviceCIDR") or ()),
    )
    return RecordDefined(
        COORDINATOR_KIND,
        "",
        body["metadata"]["name"],
        api_version=API_VERSION,
        uid=body["metadata"]["uid"],
        coordinator=coordinator,
    )
