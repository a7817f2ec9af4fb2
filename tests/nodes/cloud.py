"""A cloud for the cluster: a fake network provider, and a controller that uses the provider.

Provider and webhooks listen on the loopback of the fabric's network namespace.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import trustme
import yaml

from core.manifests.kinds.fields import API_VERSION
from core.process.environment import KUBECONFIG_VARIABLE
from ops.controller.settings import TLS_CERTIFICATE, TLS_KEY
from ops.kubernetes.admission.configurations import (
    CONFIGURATION_NAME,
    WebhookClientConfig,
    configurations,
)
from ops.kubernetes.settings import WEBHOOK_PORT, InjectionSettings
from ops.lab.controller import LabController
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.rights import CONTROLLER_ACCOUNT
from tests.nodes.workloads import SHOP_NAMESPACE, Object
from tests.workflows.jobs.provider.fake_provider import FakeProvider

WEBHOOKS_API_PATH: Final = "/apis/admissionregistration.k8s.io/v1"


class Cloud:
    """A context manager that runs a provider and a controller with webhooks.

    Each node gets ``slots`` slots for ``sub-eni``. Any thread may read the state of ``provider``.
    """

    def __init__(self, cluster: KubernetesCluster, slots: int) -> None:
        self.provider: FakeProvider
        self._cluster = cluster
        self._slots = slots
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._serve_provider()
            self._replace_controller()
            self._register_webhooks()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def create_network(self, name: str) -> None:
        """Create a network whose addresses the provider binds."""
        vlan = {"master": ["lo"], "vlanMode": "auto"}
        manifest: Object = {
            "apiVersion": API_VERSION,
            "kind": "SpiderMultusConfig",
            "metadata": {"name": name, "namespace": SHOP_NAMESPACE},
            "spec": {"cniType": "vlan", "vlan": vlan, "enableCoordinator": False},
        }
        self._cluster.apply(manifest)
        path = f"/apis/{API_VERSION}/namespaces/{SHOP_NAMESPACE}/spidermultusconfigs/{name}"
        self._stack.callback(self._cluster.server.request, "DELETE", path)

    def _serve_provider(self) -> None:
        # A socket belongs to the network namespace in which it is created.
        listening = self._cluster.server.location.visit(_create_listener)
        self.provider = FakeProvider(listening=listening)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="provider")
        thread.start()

        def stop_provider() -> None:
            asyncio.run_coroutine_threadsafe(
                self.provider.__aexit__(None, None, None), loop
            ).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        asyncio.run_coroutine_threadsafe(self.provider.__aenter__(), loop).result()
        self._stack.callback(stop_provider)

    def _replace_controller(self) -> None:
        """Replace the cluster's first controller, which ``restore_nodes`` starts again."""
        cluster, laboratory = self._cluster, self._cluster.laboratory
        directory = laboratory.directory / "cloud-controller"
        directory.mkdir()
        self._authority = trustme.CA()
        issued = self._authority.issue_cert("127.0.0.1")
        certificate, key = directory / "tls.crt", directory / "tls.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        rules = [{"defaultMaxCount": self._slots}]
        plugin = {"enabled": True, "resourceAdvertisement": {"subENI": {"rules": rules}}}
        conf = {
            "podResourceInject": {"enabled": True},
            "iaasNetworkProvider": {"serverUrl": self.provider.url},
            "agent": {"networkResourcePlugin": plugin},
        }
        (directory / "conf.yml").write_text(yaml.safe_dump(conf))
        settings = {
            KUBECONFIG_VARIABLE: str(cluster.server.kubeconfig_of(CONTROLLER_ACCOUNT)),
            TLS_CERTIFICATE: str(certificate),
            TLS_KEY: str(key),
        }
        controller = LabController(
            laboratory.identity,
            laboratory.fabric.namespace,
            directory,
            laboratory.etcd.endpoint,
            settings,
        )
        cluster.controller.process.kill()
        self._stack.callback(cluster.restore_nodes)
        controller.process.start()
        self._stack.callback(controller.process.kill)
        controller.wait_following_pods()

    def _register_webhooks(self) -> None:
        server = self._cluster.server
        url = f"https://127.0.0.1:{WEBHOOK_PORT}"
        client = WebhookClientConfig(self._authority.cert_pem.bytes(), url=url)
        for configuration in configurations(
            client, guards_deletion=False, injection=InjectionSettings()
        ):
            collection = f"{WEBHOOKS_API_PATH}/{configuration['kind'].lower()}s"
            self._stack.callback(server.request, "DELETE", f"{collection}/{CONFIGURATION_NAME}")
            answer = server.request("POST", collection, configuration)
            assert answer.status == 201, answer.message


def _create_listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener
