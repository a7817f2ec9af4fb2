"""Creates and updates the NetworkAttachmentDefinition (NAD) of each SpiderMultusConfig (network).

Kubernetes deletes a NAD with its network, which owns it. A NAD without an owner is adopted. A NAD
of another network is not changed, and an Event reports the conflict. Without Multus, NADs have no
CRD, and each network gets an Event. See docs/reference/cni-configuration.md,
"NetworkAttachmentDefinition".
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.errors import BadInput, Refusal, Refused
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.manifests.kinds.fields import API_VERSION
from core.manifests.networks.nad_renderer import NetworkAttachment, attachment_name, render
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.network_parser import checked_network
from core.manifests.networks.network_validation import (
    MULTUS_CONFIG_KIND,
    network_rules,
    owned_attachment_message,
)
from core.process.concurrency import until_first
from ops.kubernetes.conditions import READY_TYPE, DesiredCondition, refusal_condition
from ops.kubernetes.custom_resource_writer import ObjectWriter

MULTUS_CONFIGS_PATH: Final = f"/apis/{API_VERSION}/spidermultusconfigs"
NAD_VERSION: Final = "k8s.cni.cncf.io/v1"
NADS: Final = f"/apis/{NAD_VERSION}/network-attachment-definitions"
NADS_PATH: Final = f"/apis/{NAD_VERSION}/namespaces/{{}}/network-attachment-definitions"
RESYNC_S: Final = 60.0
"""All networks are reconciled at this interval, to revert manual changes of NADs."""


class Attachments:
    """Reconciles the NADs of all networks; ``written`` counts writes of NADs."""

    def __init__(self, api: Api, objects: ObjectWriter) -> None:
        self.written = 0
        self.networks = Informer(api, MULTUS_CONFIGS_PATH)
        self.nads = Informer(api, NADS)
        self._api = api
        self._objects = objects
        self._reported_messages: dict[ObjectKey, str] = {}
        self._work: WorkQueue[ObjectKey] = WorkQueue(self._reconcile, "networks")
        self.networks.listen(self._work.add)
        self.nads.listen(self._queue_networks_of)

    async def run(self) -> None:
        """Work until cancelled."""
        await until_first(
            self.networks.run(), self.nads.run(), self._reconcile_changes(), self._resync()
        )

    async def _reconcile_changes(self) -> None:
        await self.networks.listed.wait()
        await self.nads.first_list_tried.wait()
        self._work.add(self.networks.objects)
        await self._work.run()

    async def _resync(self) -> None:
        await self.nads.first_list_tried.wait()
        if not self.nads.listed.is_set():  # Multus may be installed later
            await self.nads.listed.wait()
            self._work.add(self.networks.objects)
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self.networks.objects)

    def _queue_networks_of(self, keys: set[ObjectKey]) -> None:
        self._work.add(
            key
            for key, network in self.networks.objects.items()
            if (key[0], _nad_name(network)) in keys
        )

    async def _reconcile(self, key: ObjectKey) -> None:
        network = self.networks.objects.get(key)
        if network is None or "deletionTimestamp" in network["metadata"]:
            self._reported_messages.pop(key, None)
            return
        if not self.nads.listed.is_set():
            await self._report(key, network, _nads_unreadable(self.nads.fault))
            return
        try:
            attachment = _attachment(network)
            nad = self.nads.objects.get((key[0], attachment.name))
            _require_no_other_owner(network, nad, attachment)
        except (BadInput, Refused) as error:
            await self._report(key, network, refusal_condition(error))
            return
        self._reported_messages.pop(key, None)
        await self._write(network, nad, attachment)

    async def _report(self, key: ObjectKey, network: Object, failure: DesiredCondition) -> None:
        """Create an Event, unless the last Event of the network has the same message."""
        if self._reported_messages.get(key) != failure.message:
            await self._objects.create_event(network, failure)
            self._reported_messages[key] = failure.message

    async def _write(
        self, network: Object, nad: Object | None, attachment: NetworkAttachment
    ) -> None:
        if nad is not None and "deletionTimestamp" in nad["metadata"]:
            return  # a new NAD is created after the watch has reported the deletion
        path = NADS_PATH.format(network["metadata"]["namespace"])
        body = _body(network, attachment)
        if nad is None:
            self.written += 1
            await self._api.create(path, body)
        elif _differs(nad, body):
            self.written += 1
            version = {"resourceVersion": nad["metadata"]["resourceVersion"]}
            body["metadata"] |= version | {"annotations": _annotations_patch(nad, attachment)}
            body["spec"] = {"config": attachment.config}
            await self._api.merge(f"{path}/{segment(attachment.name)}", body)


def _nads_unreadable(fault: str) -> DesiredCondition:
    message = (
        f"no NetworkAttachmentDefinition was created: {fault}. Install Multus with its CRD, and let"
        " the controller list NetworkAttachmentDefinitions"
    )
    return DesiredCondition(READY_TYPE, "False", "NoAttachmentDefinitions", message)


def _nad_name(network: Object) -> str:
    metadata = network["metadata"]
    return attachment_name(metadata["name"], metadata.get("annotations") or {})


def _attachment(stored: Object) -> NetworkAttachment:
    """The desired NAD of a network. Raises BadInput, Refused."""
    network = checked_network(stored)
    network = network._replace(spec=completed(network.spec))
    refusals: tuple[Refusal, ...] = tuple(network_rules(network))
    if refusals:
        raise Refused(refusals)
    return render(network.name, network.annotations, network.spec)


def _require_no_other_owner(
    network: Object, nad: Object | None, attachment: NetworkAttachment
) -> None:
    """Raise BadInput if another network owns the NAD."""
    for owner in (nad or {"metadata": {}})["metadata"].get("ownerReferences") or []:
        if owner["kind"] == MULTUS_CONFIG_KIND and owner["name"] != network["metadata"]["name"]:
            namespace = network["metadata"]["namespace"]
            message = owned_attachment_message(namespace, attachment.name, owner["name"])
            raise BadInput(message, subject="metadata.annotations")


def _body(network: Object, attachment: NetworkAttachment) -> Object:
    metadata = network["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": MULTUS_CONFIG_KIND,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": NAD_VERSION,
        "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": attachment.name,
            "namespace": metadata["namespace"],
            "annotations": attachment.annotations,
            "ownerReferences": [owner],
        },
        "spec": {} if attachment.config is None else {"config": attachment.config},
    }


def _differs(nad: Object, body: Object) -> bool:
    current, desired = nad["metadata"], body["metadata"]
    return any(
        (
            (current.get("annotations") or {}) != desired["annotations"],
            (nad.get("spec") or {}) != body["spec"],
            current.get("ownerReferences") != desired["ownerReferences"],
        )
    )


def _annotations_patch(nad: Object, attachment: NetworkAttachment) -> Object:
    """The annotations as a merge patch, in which null removes an annotation."""
    removed = dict.fromkeys(nad["metadata"].get("annotations") or {})
    return removed | attachment.annotations
