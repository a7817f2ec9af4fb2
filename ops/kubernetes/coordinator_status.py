"""Writes the status of one SpiderCoordinator: the CIDRs of the cluster's Pods and Services.

Agents read the status. If the CIDRs cannot be found, the phase is NotReady: new Pods wait, and
running Pods are not changed. The status is computed when the object or the node's CNI
configurations change, and once a minute, because other sources of the CIDRs are not watched. See
docs/reference/custom-resource-rules.md, "SpiderCoordinator".
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.errors import ApiNotFound, BadInput
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Informer, ObjectKey
from core.kubernetes.work_queue import WorkQueue
from core.manifests.kinds.fields import API_VERSION
from core.process.concurrency import until_first
from ops.kubernetes import cidrs
from ops.kubernetes.cidrs import Cidrs
from ops.kubernetes.cni_files import read_directory, stamp_of
from ops.kubernetes.conditions import DesiredCondition
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.settings import CoordinatorReconcilerSettings
from ops.kubernetes.translated_kinds import FINALIZER, resource_version

COORDINATORS_PATH: Final = f"/apis/{API_VERSION}/spidercoordinators"
CONFIG_MAP: Final = "/api/v1/namespaces/{}/configmaps/{}"
CONTROLLER_MANAGERS: Final = "/api/v1/pods?labelSelector=component%3Dkube-controller-manager"
CALICO_POOLS: Final = "/apis/crd.projectcalico.org/v1/ippools"
CILIUM_POOLS: Final = "/apis/cilium.io/v2alpha1/ciliumpodippools"
SERVICE_CIDRS: Final = tuple(
    f"/apis/networking.k8s.io/{version}/servicecidrs" for version in ("v1", "v1beta1", "v1alpha1")
)
NO_MANAGER: Final = "No kube-controller-manager pod found, unable to get clusterCIDR"
"""Spiderpool's text, which users search for."""

NO_FLAGS: Final = (
    "neither kube-system/kubeadm-config nor the flags of the kube-controller-manager pod have the"
    " CIDRs of Pods and Services"
)
RESYNC_S: Final = 60.0
CNI_POLL_S: Final = 2.0

FIELD_MANAGER: Final = "orbweaver-coordinator"
SYNCED: Final = "Synced"
NOT_READY: Final = "NotReady"
CLUSTER_FAULT: Final = "ClusterNotReady"
CILIUM_FAULT: Final = "CiliumNotReady"
CILIUM_REMEDY: Final = "set podCIDRType to none, and list the CIDRs of Pods in hijackCIDR"


class Coordinators:
    """Keeps the status of the SpiderCoordinator up to date; ``written`` counts writes."""

    def __init__(
        self, api: Api, objects: ObjectWriter, settings: CoordinatorReconcilerSettings
    ) -> None:
        self.written = 0
        self.informer = Informer(api, COORDINATORS_PATH)
        self.informer.listen(self._changed)
        self._api = api
        self._objects = objects
        self._settings = settings
        self._event_to_create: DesiredCondition | None = None
        self._work: WorkQueue[ObjectKey] = WorkQueue(self._reconcile, "coordinators")

    async def run(self) -> None:
        """Work until cancelled."""
        await until_first(
            self.informer.run(), self._work.run(), self._resync(), self._watch_cni_files()
        )

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._work.add(self.informer.objects)

    async def _watch_cni_files(self) -> None:
        before = await asyncio.to_thread(stamp_of, self._settings.cni_directory)
        while True:
            await asyncio.sleep(CNI_POLL_S)
            now = await asyncio.to_thread(stamp_of, self._settings.cni_directory)
            if now != before:
                before = now
                self._work.add(self.informer.objects)

    def _changed(self, keys: set[ObjectKey]) -> None:
        self._work.add(keys)

    async def _reconcile(self, key: ObjectKey) -> None:
        coordinator = self.informer.objects.get(key)
        if coordinator is None:
            return
        if "deletionTimestamp" in coordinator["metadata"]:
            await self._remove_finalizer(coordinator)
        elif coordinator["metadata"]["name"] == self._settings.name:
            await self._report(coordinator)

    async def _report(self, coordinator: Object) -> None:
        before = coordinator.get("status") or {}
        desired: Object
        failure: DesiredCondition | None = None
        try:
            prefixes = await self._find_cidrs(coordinator)
        except BadInput as error:
            desired = {"phase": NOT_READY, "reason": error.message}
            desired |= {"overlayPodCIDR": [], "serviceCIDR": []}
            # ``create_event`` ignores the type and the status.
            failure = DesiredCondition("Ready", "False", error.subject, str(error))
        else:
            desired = {"phase": SYNCED, "overlayPodCIDR": list(prefixes.pods)}
            desired["serviceCIDR"] = list(prefixes.services)
        if desired != before:
            await self._write(coordinator, desired)
            self._event_to_create = failure
        # After the write, so that retries of a write create no Event; a failed Event is retried.
        if self._event_to_create is not None:
            await self._objects.create_event(coordinator, self._event_to_create)
            self._event_to_create = None

    async def _write(self, coordinator: Object, status: Object) -> None:
        self.written += 1
        # Server-side apply would keep a ``reason`` that Spiderpool's field manager owns.
        removed = dict.fromkeys(coordinator.get("status") or {})
        body = {"metadata": resource_version(coordinator), "status": removed | status}
        name = coordinator["metadata"]["name"]
        await self._api.merge(f"{COORDINATORS_PATH}/{name}/status", body, FIELD_MANAGER)

    async def _remove_finalizer(self, coordinator: Object) -> None:
        metadata = coordinator["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER in finalizers:
            others = [text for text in finalizers if text != FINALIZER]
            version = metadata["resourceVersion"]
            body = {"metadata": {"finalizers": others, "resourceVersion": version}}
            await self._api.merge(f"{COORDINATORS_PATH}/{metadata['name']}", body)

    async def _find_cidrs(self, coordinator: Object) -> Cidrs:
        """Find the CIDRs of podCIDRType. Raises BadInput; its subject is the Event's reason."""
        source = coordinator["spec"].get("podCIDRType", "auto")
        if source == "auto":
            texts = await asyncio.to_thread(read_directory, self._settings.cni_directory)
            source = cidrs.source_of(texts)
        services = await self._service_cidrs()
        match source:
            case "cluster":
                cluster = await self._cluster_cidrs()
                return Cidrs(cluster.pods, services or cluster.services)
            case "calico":
                pods = cidrs.of_calico(await self._api.list_if_served(CALICO_POOLS))
            case "cilium":
                pods = await self._cilium_pod_cidrs()
            case _:
                pods = ()
        return Cidrs(pods, services or (await self._cluster_cidrs()).services)

    async def _service_cidrs(self) -> tuple[str, ...]:
        for path in SERVICE_CIDRS:
            if objects := await self._api.list_if_served(path):
                return cidrs.of_service_cidrs(objects)
        return ()

    async def _cluster_cidrs(self) -> Cidrs:
        """The CIDRs of kubeadm, else of the kube-controller-manager. Raises BadInput."""
        prefixes = Cidrs()
        config_map = await self._get(CONFIG_MAP.format("kube-system", "kubeadm-config"))
        if config_map is not None:
            prefixes = cidrs.of_kubeadm(config_map)
        if prefixes.pods and prefixes.services:
            return prefixes
        managers = await self._api.list_if_served(CONTROLLER_MANAGERS)
        if managers:
            prefixes = prefixes.or_else(cidrs.of_controller_manager(managers[0]))
        if not (prefixes.pods or prefixes.services):
            raise BadInput(
                NO_FLAGS if managers else NO_MANAGER,
                subject=CLUSTER_FAULT,
                remedy="write podSubnet and serviceSubnet below networking in ClusterConfiguration"
                " of the ConfigMap kube-system/kubeadm-config",
            )
        return prefixes

    async def _cilium_pod_cidrs(self) -> tuple[str, ...]:
        namespace, _, name = self._settings.cilium.partition("/")
        config_map = await self._get(CONFIG_MAP.format(namespace, name))
        if config_map is None:
            message = f"there is no ConfigMap {self._settings.cilium}"
            raise BadInput(message, subject=CILIUM_FAULT, remedy=CILIUM_REMEDY)
        ipam = cidrs.of_cilium(config_map)
        match ipam.mode:
            case "cluster-pool" | "cluster-pool-v2beta":
                return ipam.cidrs
            case "multi-pool":
                return cidrs.of_cilium_pools(await self._api.list_if_served(CILIUM_POOLS))
            case "kubernetes":
                return (await self._cluster_cidrs()).pods
            case mode:
                message = f"the Pod CIDRs of Cilium's IPAM mode {mode[:64]!r} cannot be found"
                raise BadInput(message, subject=CILIUM_FAULT, remedy=CILIUM_REMEDY)

    async def _get(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except ApiNotFound:
            return None
