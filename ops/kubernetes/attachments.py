"""NetworkAttachmentDefinitions: every SpiderMultusConfig has its own.

See docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".

Level-triggered like the translator. A NAD that nobody owns is taken over, one that another network
owns is left alone and told about. Deleting is the garbage collector's: the network is the NAD's
controller. Once a minute everything is looked at again, for those who edit NADs by hand.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.domain.configuration.refusals import Refusal
from core.errors import BadInput, Refused
from core.kubernetes.api import Api, Object, segment
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.manifests.kinds.fields import API_VERSION
from core.manifests.networks.defaults import completed
from core.manifests.networks.nad_renderer import NetworkAttachment, attachment_name, render
from core.manifests.networks.network_parser import network_of
from core.manifests.networks.rules import KIND, network_rules, owned_attachment
from core.process.concurrency import until_first
from ops.kubernetes.conditions import refused
from ops.kubernetes.objects import ObjectWriter

NETWORKS: Final = f"/apis/{API_VERSION}/spidermultusconfigs"
NAD_VERSION: Final = "k8s.cni.cncf.io/v1"
NADS: Final = f"/apis/{NAD_VERSION}/network-attachment-definitions"
NAMESPACED: Final = f"/apis/{NAD_VERSION}/namespaces/{{}}/network-attachment-definitions"
RESYNC_S: Final = 60.0


class Attachments:
    """One controller's NADs; ``written`` counts what was created or changed."""

    def __init__(self, api: Api, objects: ObjectWriter) -> None:
        self.written = 0
        self.networks = Informer(api, NETWORKS)
        self.nads = Informer(api, NADS)
        self._api = api
        self._objects = objects
        self._told: dict[ObjectKey, str] = {}
        self._work: WorkQueue[ObjectKey] = WorkQueue(self._look, "networks")
        self.networks.listen(self._work.add)
        self.nads.listen(self._nads_changed)

    @property
    def idle(self) -> bool:
        """Whether every network was looked at, and nothing has to be tried again."""
        listed = self.networks.listed.is_set() and self.nads.listed.is_set()
        return listed and self._work.empty

    async def run(self) -> None:
        """Work until cancelled; without the NADs' definition installed, wait for it."""
        await until_first(self.networks.run(), self.nads.run(), self._work_on(), self._resync())

    async def _work_on(self) -> None:
        await self.networks.listed.wait()
        await self.nads.listed.wait()
        self._work.add(self.networks.objects)
        await self._work.run()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self.networks.objects)

    def _nads_changed(self, keys: set[ObjectKey]) -> None:
        """Look at the networks whose NADs these are."""
        self._work.add(
            key for key, one in self.networks.objects.items() if (key[0], _nad_name(one)) in keys
        )

    async def _look(self, key: ObjectKey) -> None:
        one = self.networks.objects.get(key)
        if one is None or "deletionTimestamp" in one["metadata"]:
            self._told.pop(key, None)
            return
        try:
            wanted = _attachment(one)
            nad = self.nads.objects.get((key[0], wanted.name))
            _require_ours(one, nad, wanted)
        except (BadInput, Refused) as error:
            await self._tell(key, one, error)
            return
        self._told.pop(key, None)
        await self._write(one, nad, wanted)

    async def _tell(self, key: ObjectKey, one: Object, error: BadInput | Refused) -> None:
        """An Event, once for each thing that is wrong."""
        if self._told.get(key) != str(error):
            await self._objects.tell(one, refused(error))
            self._told[key] = str(error)

    async def _write(self, one: Object, nad: Object | None, wanted: NetworkAttachment) -> None:
        if nad is not None and "deletionTimestamp" in nad["metadata"]:
            return  # its end is a change, and a new one is made then
        path = NAMESPACED.format(one["metadata"]["namespace"])
        body = _body(one, wanted)
        if nad is None:
            self.written += 1
            await self._api.create(path, body)
        elif _differs(nad, body):
            self.written += 1
            version = {"resourceVersion": nad["metadata"]["resourceVersion"]}
            body["metadata"] |= version | {"annotations": _replacing(nad, wanted)}
            body["spec"] = {"config": wanted.config}
            await self._api.merge(f"{path}/{segment(wanted.name)}", body)


def _nad_name(one: Object) -> str:
    metadata = one["metadata"]
    return attachment_name(metadata["name"], metadata.get("annotations") or {})


def _attachment(one: Object) -> NetworkAttachment:
    """What the NAD has to be. Raises BadInput, Refused."""
    network = network_of(one)
    network = network._replace(spec=completed(network.spec))
    refusals: tuple[Refusal, ...] = tuple(network_rules(network))
    if refusals:
        raise Refused(refusals)
    return render(network.name, network.annotations, network.spec)


def _require_ours(one: Object, nad: Object | None, wanted: NetworkAttachment) -> None:
    """Raises BadInput when another network owns the NAD."""
    for owner in (nad or {"metadata": {}})["metadata"].get("ownerReferences") or []:
        if owner["kind"] == KIND and owner["name"] != one["metadata"]["name"]:
            namespace = one["metadata"]["namespace"]
            message = owned_attachment(namespace, wanted.name, owner["name"])
            raise BadInput(message, subject="metadata.annotations")


def _body(one: Object, wanted: NetworkAttachment) -> Object:
    metadata = one["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": NAD_VERSION,
        "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": wanted.name,
            "namespace": metadata["namespace"],
            "annotations": wanted.annotations,
            "ownerReferences": [owner],
        },
        "spec": {} if wanted.config is None else {"config": wanted.config},
    }


def _differs(nad: Object, body: Object) -> bool:
    """Annotations, configuration or owner."""
    found, wanted = nad["metadata"], body["metadata"]
    return any(
        (
            (found.get("annotations") or {}) != wanted["annotations"],
            (nad.get("spec") or {}) != body["spec"],
            found.get("ownerReferences") != wanted["ownerReferences"],
        )
    )


def _replacing(nad: Object, wanted: NetworkAttachment) -> Object:
    """The annotations as a merge patch: what is not wanted any more is null."""
    gone = dict.fromkeys(nad["metadata"].get("annotations") or {})
    return gone | wanted.annotations
