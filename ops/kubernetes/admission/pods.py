"""The Pod webhook (docs/reference/admission.md, "Pods").

Slots are extended resources (``core.domain.slots``). The webhook is off by default, because new
Pods would depend on it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.errors import ApiNotFound, ApiUnavailable, BadInput, Refusal
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import Informer
from core.manifests.networks.nad_renderer import attachment_name
from core.manifests.networks.network_parser import network_of
from core.manifests.networks.pod_networks import InjectableNetwork, inject, needs_injection
from core.manifests.networks.pod_slots import SlotSettings, may_request_slots, with_slots
from ops.kubernetes.admission.reviews import AdmissionRequest, allowed, denied, patch_between
from ops.kubernetes.network_attachment_definitions import MULTUS_CONFIGS_PATH

POD_WEBHOOK_PATH: Final = "/mutate--v1-pod"
LISTED_S_MAX: Final = 5.0
"""How long a Pod that needs networks or slots waits for the first list of networks."""


class PodInjection:
    """Mutates new Pods; ``run`` watches the networks."""

    def __init__(self, api: Api, slots: SlotSettings) -> None:
        self._api = api
        self._slots = slots
        self._networks: dict[tuple[str, str], InjectableNetwork] = {}
        self._informer = Informer(api, MULTUS_CONFIGS_PATH)
        self._informer.listen(self._update_networks)

    async def run(self) -> None:
        """Watch the networks until cancelled."""
        await self._informer.run()

    async def mutate(self, admission_request: AdmissionRequest) -> bytes:
        """Add networks, devices and slots to the Pod, or refuse it. Raises ApiError."""
        pod = admission_request.object
        namespace = await self._namespace(admission_request.namespace)
        if not (needs_injection(pod, namespace) or may_request_slots(pod, self._slots)):
            return allowed(admission_request.uid)
        try:
            async with asyncio.timeout(LISTED_S_MAX):
                await self._informer.listed.wait()
        except TimeoutError:
            message = f"SpiderMultusConfigs could not be listed within {LISTED_S_MAX:g} s"
            if self._informer.fault:
                message += f": {self._informer.fault}"
            remedy = "check the controller's rights to list and watch them"
            raise ApiUnavailable(message, remedy=remedy) from None
        networks = list(self._networks.values())
        try:
            after = inject(pod, namespace, networks)
        except BadInput as error:
            refusal = Refusal("Invalid", "inject", "Pod", "metadata.annotations", error.message)
            return denied(admission_request, [refusal], name=_name(pod))
        after = with_slots(after, admission_request.namespace, networks, self._slots)
        return allowed(admission_request.uid, patch_between(pod, after))

    async def _namespace(self, name: str) -> Object:
        try:
            return await self._api.get(f"/api/v1/namespaces/{segment(name)}")
        except ApiNotFound:
            return {}

    def _update_networks(self, keys: set[tuple[str, str]]) -> None:
        for key in keys:
            body = self._informer.objects.get(key)
            self._networks.pop(key, None)
            if body is None:
                continue
            try:
                network = network_of(body)
            except BadInput:
                continue  # an Event reports this error
            labels = body["metadata"].get("labels") or {}
            nad = attachment_name(network.name, network.annotations)
            self._networks[key] = InjectableNetwork(*key, labels, network.spec, nad=nad)


def _name(pod: Object) -> str:
    metadata = pod["metadata"]
    return str(metadata.get("name") or metadata.get("generateName", ""))
