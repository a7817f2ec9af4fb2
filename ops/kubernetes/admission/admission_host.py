"""The webhooks of a controller. Every replica serves them."""

from __future__ import annotations

import logging
from typing import Final

from core.configuration.admission_records import AdmissionStore
from core.configuration.configurator import Configurator
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.process.connections import ConnectionCounts
from core.process.supervision import Supervisor, TaskSpec
from core.process.teardown import Teardown
from core.projections.projector import Projector
from ops.kubernetes.admission.pending_admissions import Admitter
from ops.kubernetes.admission.pods import PodInjection
from ops.kubernetes.admission.validation import AdmissionValidator
from ops.kubernetes.admission.webhook_server import Admission, WebhookPort
from ops.kubernetes.certificates.certificate_keeper import CertificateKeeper
from ops.kubernetes.settings import KubernetesSettings, WebhookSettings

PORT_SETTING: Final = "SPIDERPOOL_WEBHOOK_PORT"

_log: Final = logging.getLogger(__name__)


class AdmissionHost:
    """The webhooks of one replica. ``port``: None until the server listens."""

    def __init__(
        self,
        settings: KubernetesSettings,
        webhook: WebhookSettings,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        connections: ConnectionCounts | None = None,
    ) -> None:
        self._connections = connections
        self.port: int | None = None
        self.tasks = Supervisor()
        self._settings = settings
        self._webhook = webhook
        self._projector = projector
        self._admissions = AdmissionStore(store, keys)
        # Dry runs write nothing, so the writer is never opened.
        self._configurator = Configurator(
            store,
            keys,
            Writer(store, keys, controller_writer("admission")),
            ipv4_enabled=settings.ipv4_enabled,
            ipv6_enabled=settings.ipv6_enabled,
            subnets_enabled=settings.subnets_enabled,
        )

    async def run(self) -> None:
        """Serve reviews until cancelled.

        Raises BadInput for unusable credentials or certificates, or a port that is in use.
        """
        api = Api(await open_connection(self._settings.kubeconfig))
        admitter = Admitter(api, self._configurator, self._admissions)
        subnets_enabled = self._settings.subnets_enabled
        validator = AdmissionValidator(
            api,
            self._configurator,
            admitter,
            guards_deletion=self._webhook.guards_deletion,
            subnets_enabled=subnets_enabled,
        )
        secret = self._webhook.secret
        keeper = CertificateKeeper(api, secret) if secret is not None else None
        injection = self._webhook.injection
        pods = PodInjection(api, injection.slots) if injection is not None else None
        admission = Admission(
            api, self._projector, validator, pods, subnets_enabled=subnets_enabled
        )
        port = WebhookPort(admission, self._webhook.files, self._connections)
        teardown = Teardown()
        teardown.push("the API server", api.close)
        teardown.push("the webhook port", port.close)
        teardown.push("tasks of the webhooks", self.tasks.close)
        try:
            if keeper is not None:
                await keeper.open()
            await port.open(self._webhook.address, self._webhook.port, PORT_SETTING)
            self.port = port.port
            _log.info("serving webhooks", extra={"fields": {"port": port.port}})
            self.tasks.start(TaskSpec("pending-admissions", admitter.run))
            for name, task in (("webhook-certificate", keeper), ("injected-networks", pods)):
                if task is not None:
                    self.tasks.start(TaskSpec(name, task.run))
            await port.reload_certificates()  # until cancelled
        finally:
            self.port = None
            await teardown.close()
