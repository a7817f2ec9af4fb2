"""The status of the SpiderCoordinator: which CIDRs of Pods and Services the host's stack serves.

One object of the configured name is kept (docs/reference/custom-resource-rules.md,
"SpiderCoordinator"); agents read its status. What cannot be found out is told as phase NotReady
with the reason and without any CIDR: new Pods wait, those that run keep what they have. Looked at
when the object or the node's CNI configurations change, and once a minute, because the other
sources are not followed.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.errors import ApiNotFound, BadInput
from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.manifests.kinds.fields import API_VERSION
from core.process.concurrency import until_first
from ops.kubernetes import cidrs
from ops.kubernetes.cidrs import Cidrs
from ops.kubernetes.cni_files import read_directory, stamp_of
from ops.kubernetes.conditions import DesiredCondition
from ops.kubernetes.objects import ObjectWriter
from ops.kubernetes.resources import FINALIZER
from ops.kubernetes.settings import CoordinatorReconcilerSettings

COORDINATORS: Final = f"/apis/{API_VERSION}/spidercoordinators"
CONFIG_MAP: Final = "/api/v1/namespaces/{}/configmaps/{}"
CONTROLLER_MANAGERS: Final = "/api/v1/pods?labelSelector=component%3Dkube-controller-manager"
CALICO_POOLS: Final = "/apis/crd.projectcalico.org/v1/ippools"
CILIUM_POOLS: Final = "/apis/cilium.io/v2alpha1/ciliumpodippools"
SERVICE_CIDRS: Final = tuple(
    f"/apis/networking.k8s.io/{version}/servicecidrs" for version in ("v1", "v1beta1", "v1alpha1")
)
NO_MANAGER: Final = "No kube-controller-manager pod found, unable to get clusterCIDR"
"""Spiderpool's text, which users match."""

NO_FLAGS: Final = (
    "neither kube-system/kubeadm-config nor the flags of the kube-controller-manager pod have the"
    " CIDRs of Pods and Services"
)
RESYNC_S: Final = 60.0
FOLLOW_S: Final = 2.0
"""How often the node's CNI configurations are compared with what they were."""

MANAGER: Final = "orbweaver-coordinator"
SYNCED: Final = "Synced"
NOT_READY: Final = "NotReady"
CLUSTER_FAULT: Final = "ClusterNotReady"
CILIUM_FAULT: Final = "CiliumNotReady"


class Coordinators:
    """Keeps the status of one SpiderCoordinator; ``written`` counts its changes."""

    def __init__(
        self, api: Api, objects: ObjectWriter, settings: CoordinatorReconcilerSettings
    ) -> None:
        self.written = 0
        self.informer = Informer(api, COORDINATORS)
        self.informer.listen(self._changed)
        self._api = api
        self._objects = objects
        self._settings = settings
        self._work: WorkQueue[ObjectKey] = WorkQueue(self._look, "coordinators")

    async def run(self) -> None:
        """Work until cancelled."""
        works = (self.informer.run(), self._work.run(), self._resync(), self._follow())
        await until_first(*works)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self.informer.objects)

    async def _follow(self) -> None:
        """Report again as soon as the node has another overlay."""
        before = await asyncio.to_thread(stamp_of, self._settings.cni_directory)
        while True:
            await asyncio.sleep(FOLLOW_S)
            now = await asyncio.to_thread(stamp_of, self._settings.cni_directory)
            if now != before:
                before = now
                self._work.add(self.informer.objects)

    def _changed(self, keys: set[ObjectKey]) -> None:
        self._work.add(keys)

    async def _look(self, key: ObjectKey) -> None:
        one = self.informer.objects.get(key)
        if one is None:
            return
        if "deletionTimestamp" in one["metadata"]:
            await self._release(one)
        elif one["metadata"]["name"] == self._settings.name:
            await self._report(one)

    async def _report(self, one: Object) -> None:
        before = one.get("status") or {}
        wanted: Object
        why: DesiredCondition | None = None
        try:
            found = await self._find(one)
        except BadInput as error:
            wanted = {"phase": NOT_READY, "reason": error.message}
            wanted |= {"overlayPodCIDR": [], "serviceCIDR": []}
            why = DesiredCondition("Ready", "False", error.subject, error.message)
        else:
            wanted = {"phase": SYNCED, "overlayPodCIDR": list(found.pods)}
            wanted["serviceCIDR"] = list(found.services)
        if wanted == before:
            return
        self.written += 1
        body: Object = {"apiVersion": API_VERSION, "kind": "SpiderCoordinator", "status": wanted}
        body["metadata"] = {key: one["metadata"][key] for key in ("name", "uid")}
        name = one["metadata"]["name"]
        await self._api.apply(f"{COORDINATORS}/{name}/status", body, MANAGER)
        if why is not None:  # once it stands: a status that cannot be written is tried again
            await self._objects.tell(one, why)

    async def _release(self, one: Object) -> None:
        """Nothing is to be taken back: let it go."""
        metadata = one["metadata"]
        left = [text for text in metadata.get("finalizers") or [] if text != FINALIZER]
        if left != (metadata.get("finalizers") or []):
            version = metadata["resourceVersion"]
            body = {"metadata": {"finalizers": left, "resourceVersion": version}}
            await self._api.merge(f"{COORDINATORS}/{metadata['name']}", body)

    async def _find(self, one: Object) -> Cidrs:
        """The CIDRs by podCIDRType. Raises BadInput, its subject the reason of the Event."""
        said = one["spec"].get("podCIDRType", "auto")
        kind = said
        if said == "auto":
            texts = await asyncio.to_thread(read_directory, self._settings.cni_directory)
            kind = cidrs.source_of(texts)
        services = await self._services()
        match kind:
            case "cluster":
                cluster = await self._cluster()
                return Cidrs(cluster.pods, services or cluster.services)
            case "calico":
                pods = cidrs.of_calico(await self._list(CALICO_POOLS))
            case "cilium":
                pods = await self._cilium()
            case _:
                pods = ()
        return Cidrs(pods, services or (await self._cluster()).services)

    async def _services(self) -> tuple[str, ...]:
        """Of ServiceCIDR objects, where the API server has them."""
        for path in SERVICE_CIDRS:
            if found := await self._list(path):
                return cidrs.of_service_cidrs(found)
        return ()

    async def _cluster(self) -> Cidrs:
        found = Cidrs()
        config_map = await self._get(CONFIG_MAP.format("kube-system", "kubeadm-config"))
        if config_map is not None:
            found = cidrs.of_kubeadm(config_map)
        if found.pods and found.services:
            return found
        managers = await self._list(CONTROLLER_MANAGERS)
        if managers:
            found = found.or_else(cidrs.of_controller_manager(managers[0]))
        if not (found.pods or found.services):
            raise BadInput(NO_FLAGS if managers else NO_MANAGER, subject=CLUSTER_FAULT)
        return found

    async def _cilium(self) -> tuple[str, ...]:
        namespace, _, name = self._settings.cilium.partition("/")
        config_map = await self._get(CONFIG_MAP.format(namespace, name))
        if config_map is None:
            message = f"there is no ConfigMap {self._settings.cilium}"
            raise BadInput(message, subject=CILIUM_FAULT)
        answer = cidrs.of_cilium(config_map)
        match answer.mode:
            case "cluster-pool" | "cluster-pool-v2beta":
                return answer.cidrs
            case "multi-pool":
                return cidrs.of_cilium_pools(await self._list(CILIUM_POOLS))
            case "kubernetes":
                return (await self._cluster()).pods
            case mode:
                message = f"Cilium's ipam {mode[:64]!r} is not supported"
                raise BadInput(message, subject=CILIUM_FAULT)

    async def _get(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except ApiNotFound:
            return None

    async def _list(self, path: str) -> list[Object]:
        """Everything of a collection, nothing where the API server does not have it."""
        try:
            return (await self._api.list(path)).items
        except ApiNotFound:
            return []
