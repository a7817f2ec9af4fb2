"""The Kubernetes tasks of a leading controller.

The translator applies custom resources to the log. The other tasks write statuses,
NetworkAttachmentDefinitions, records of SpiderCoordinators, and the Lease.
"""

from __future__ import annotations

import logging
from typing import Final

from core.eventstore.election import LeaderTerm
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.informer import Informer, reflector_task
from core.process.supervision import Supervisor, TaskSpec
from core.process.teardown import Teardown
from core.projections.projector import Projector
from ops.kubernetes.coordinator_records import CoordinatorRecords, delete_coordinator_records
from ops.kubernetes.coordinator_status import Coordinators
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.ipam_claim_status import ClaimReporter
from ops.kubernetes.leader_lease import LeaseReport
from ops.kubernetes.network_attachment_definitions import Attachments
from ops.kubernetes.pool_outlooks import PoolOutlooks
from ops.kubernetes.pool_status_writer import StatusWriter
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.status_reporter import Reporter
from ops.kubernetes.translated_kinds import TranslatedKind
from ops.kubernetes.translator import Translator
from ops.kubernetes.translator_commands import Commands

_log: Final = logging.getLogger(__name__)


class KubernetesHost:
    """Runs the translator and the other tasks while this controller leads.

    ``translator``, ``reporter`` and ``attachments`` are set only during ``run``. ``tasks``
    supervises everything else; its failures do not stop the translator.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        name: str,
        outlooks: PoolOutlooks | None = None,
    ) -> None:
        self.outlooks = outlooks or PoolOutlooks()
        self.translator: Translator | None = None
        self.reporter: Reporter | None = None
        self.attachments: Attachments | None = None
        self.tasks = Supervisor()
        self._settings = settings
        self._store = store
        self._keys = keys
        self._projector = projector
        self._name = name

    async def run(self, term: LeaderTerm | None = None) -> None:
        """Work until cancelled. Raises BadInput (no credentials), StoreError, LostRace."""
        api = Api(await open_connection(self._settings.kubeconfig))
        teardown = Teardown()
        teardown.push("the API server", api.close)
        commands = Commands(self._store, self._keys, self._projector, self._settings)
        teardown.push("the translator's writer", commands.close)
        teardown.push("tasks of Kubernetes", self.tasks.close)
        try:
            await commands.open()
            objects = ObjectWriter(api, self._name)
            informers = {kind: Informer(api, kind.collection) for kind in TranslatedKind}
            status = StatusWriter(api, objects, informers)
            self.translator = Translator(informers, commands, objects, status)
            self.reporter = Reporter(api, self._projector, informers, status, self.outlooks)
            for kind, informer in informers.items():
                self.tasks.start(reflector_task(f"watch-{kind.value}", informer.run, [informer]))
            self.tasks.start(TaskSpec("status-reporter", self.reporter.run))
            if self._settings.networks:
                self.attachments = Attachments(api, objects)
                self.tasks.start(TaskSpec("networks", self.attachments.run))
            if self._settings.ipam_claims:
                claims = ClaimReporter(api, self._projector)
                self.tasks.start(TaskSpec("claim-reporter", claims.run))
            if self._settings.coordinator is not None:
                coordinators = Coordinators(api, objects, self._settings.coordinator)
                self.tasks.start(TaskSpec("coordinators", coordinators.run))
                records = CoordinatorRecords(coordinators.informer, commands)
                self.tasks.start(TaskSpec("coordinator-records", records.run))
            else:
                await delete_coordinator_records(commands)
            if self._settings.lease is not None and term is not None:
                report = LeaseReport(api, self._settings.lease, term)
                self.tasks.start(TaskSpec("lease-report", report.run))
            _log.info("translating custom resources")
            await self.translator.run()
        finally:
            await teardown.close()
            self.translator = self.reporter = self.attachments = None
