"""The webhook server of a cluster, registered at the API server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import trustme

from core.kubernetes.api_client import Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.admission.admission_host import AdmissionHost
from ops.kubernetes.admission.configurations import WebhookClientConfig, configurations
from ops.kubernetes.admission.webhook_server import path_of as hook_path
from ops.kubernetes.settings import (
    CertificateFiles,
    InjectionSettings,
    KubernetesSettings,
    WebhookSettings,
)
from tests.kubernetes.objects import create, custom_resource, path_of, replace
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import ApiServer

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
CONFIGURATION_PATHS = {
    "MutatingWebhookConfiguration": f"{CONFIGURATIONS}/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": f"{CONFIGURATIONS}/validatingwebhookconfigurations",
}


class Webhooks:
    """A webhook server that tests start, register and call."""

    def __init__(self, cluster: TranslatorHarness, directory: Path) -> None:
        self.cluster = cluster
        self.authority = trustme.CA()
        self.files = CertificateFiles(directory / "tls.crt", directory / "tls.key")
        self.host: AdmissionHost
        self._running: asyncio.Task[None] | None = None

    def write_certificate(self) -> None:
        issued = self.authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(self.files.certificate))
        issued.private_key_pem.write_to_path(str(self.files.key))

    async def start(
        self, *, guards_deletion: bool = False, injection: InjectionSettings | None = None
    ) -> None:
        """Start the server, and register it at the API server."""
        webhook = WebhookSettings(self.files, "127.0.0.1", 0, guards_deletion, injection)
        settings = self.cluster.settings._replace(webhook=webhook)
        cluster = self.cluster
        self.host = AdmissionHost(settings, webhook, cluster.store, cluster.keys, cluster.projector)
        self._running = asyncio.ensure_future(self.host.run())
        await cluster.until(lambda: self.host.port or self._raise_if_ended())
        url = f"https://127.0.0.1:{self.host.port}"
        client = WebhookClientConfig(self.authority.cert_pem.bytes(), url=url)
        for body in configurations(client, guards_deletion=guards_deletion, injection=injection):
            answer = await asyncio.to_thread(
                cluster.server.request, "POST", CONFIGURATION_PATHS[body["kind"]], body
            )
            assert answer.status == 201, answer.message
        await self._until_api_server_calls()

    async def stop(self) -> None:
        """Unregister and stop the server."""
        for path in CONFIGURATION_PATHS.values():
            server = self.cluster.server
            await asyncio.to_thread(server.request, "DELETE", f"{path}/spiderpool-controller")
        await self.stop_serving()

    async def stop_serving(self) -> None:
        """Stop the server; the API server's calls to it then fail."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def create(self, body: Object) -> str:
        """Create an object; return the API server's error message, or "" for success."""
        answer = await asyncio.to_thread(create, self.cluster.server, body)
        return "" if answer.status == 201 else answer.message

    async def replace(self, body: Object) -> str:
        """Replace an object; return the API server's error message, or "" for success."""
        answer = await asyncio.to_thread(replace, self.cluster.server, body)
        return "" if answer.status == 200 else answer.message

    def review_request(self, operation: str, body: Object, old: Object | None = None) -> Object:
        group, _, version = API_VERSION.partition("/")
        return {
            "uid": "r-1",
            "kind": {"group": group, "version": version, "kind": body["kind"]},
            "operation": operation,
            "name": body["metadata"]["name"],
            "namespace": body["metadata"].get("namespace", ""),
            "object": body,
            "oldObject": old,
        }

    async def validate(self, operation: str, body: Object, old: Object | None = None) -> Object:
        """Call the validating webhook without the API server; return the response."""
        request = self.review_request(operation, body, old) | {"namespace": ""}
        return await self.send_review("validate", body["kind"], request)

    async def send_review(self, verb: str, kind: str, review_request: Object) -> Object:
        """Return the response of a webhook. ``verb``: "mutate" or "validate"."""
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        text = msgspec.json.encode(body | {"request": review_request})
        trust = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        url = f"https://127.0.0.1:{self.host.port}{hook_path(verb, kind)}"
        headers = {"Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=text, headers=headers, ssl=trust) as answer,
        ):
            assert answer.status == 200, await answer.text()
            response: Object = msgspec.json.decode(await answer.read())["response"]
            return response

    async def until_certificate_changes(self, before: str) -> None:
        async with asyncio.timeout(30):
            while await self.certificate() == before:
                await asyncio.sleep(0.02)

    async def certificate(self) -> str:
        """The server's certificate in PEM."""
        assert self.host.port is not None
        return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", self.host.port))

    def _raise_if_ended(self) -> bool:
        """Raise the error of a server that has ended; otherwise return False."""
        assert self._running is not None
        if self._running.done():
            self._running.result()
        return False

    async def _until_api_server_calls(self) -> None:
        """Wait until the API server calls the webhooks; it ignores new registrations at first."""
        probe = custom_resource(
            "SpiderCoordinator", "probe", {"podCIDRType": "auto", "podRPFilter": 1}
        )

        async def is_called() -> bool:
            server = self.cluster.server
            path = path_of("SpiderCoordinator") + "?dryRun=All"
            answer = await asyncio.to_thread(server.request, "POST", path, probe)
            return bool(answer.body.get("metadata", {}).get("finalizers"))

        async with asyncio.timeout(30):
            while not await is_called():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_webhooks(
    server: ApiServer, directory: Path, *, subnets_enabled: bool = True
) -> AsyncIterator[Webhooks]:
    settings = KubernetesSettings(str(server.kubeconfig), subnets_enabled=subnets_enabled)
    async with TranslatorHarness(server, settings) as cluster:
        webhooks = Webhooks(cluster, directory)
        webhooks.write_certificate()
        await webhooks.start()
        yield webhooks
        await webhooks.stop()
