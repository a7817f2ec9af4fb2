"""Facts about Pods from the API server: watched objects, and single reads.

An ADD waits briefly for the watch to deliver its Pod, then reads the API server. Cached facts can
decide to keep an address. A release needs an answer of the API server, or a watch that reported the
end of the Pod (I6 of docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from core.domain.fixed.fixed_address_owners import FixedSettings, kind_of_holder, kind_of_pod
from core.domain.fixed.ipam_claims import NO_CLAIMS, ipam_claims_of
from core.domain.fixed.owner_validity import Validity, validity_of
from core.domain.model import Endpoint
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.errors import ApiError, ApiNotFound, NotReady, WrongInput
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import Informer, ObjectKey, Reflector, Transition
from core.kubernetes.work_queue import WorkQueue
from core.kubernetes.workloads.applications import stateful_set_state
from core.kubernetes.workloads.pods import cached_part, controller_of, is_alive
from core.process.concurrency import until_all
from nodeagent.kubernetes.pod_owners import OwnerCache
from nodeagent.pod_facts import CONFIRM_S_MAX, DEFAULT_NAMESPACE, MIGRATION_ANNOTATION, Liveness

WATCH_WAIT_S_MAX: Final = 2.0
"""An ADD waits for its Pod, because kubelet is often faster than the watch of Pods."""

UNDELIVERED_PODS_MAX: Final = 512
"""Cached Pods that ADDs read before the watch delivered them."""

ENDED_UIDS_MAX: Final = 4_096

_log: Final = logging.getLogger(__name__)


class KubernetesFactsSource:
    """The ``FactsSource`` of a cluster; ``run`` keeps it up to date."""

    def __init__(self, api: Api, node: str, fixed: FixedSettings) -> None:
        self.pods = Informer(api, f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}", cached_part)
        self.nodes = Informer(
            api, f"/api/v1/nodes?fieldSelector=metadata.name%3D{node}", cached_part
        )
        self.namespaces = Informer(api, "/api/v1/namespaces", cached_part)
        self.stateful_sets = Reflector(api, "/apis/apps/v1/statefulsets", stateful_set_state)
        self.reads = 0
        self._api = api
        self._node = node
        self._fixed = fixed
        self._owners = OwnerCache(api, self.stateful_sets)
        self._owner_queue = WorkQueue(self._load_owner, "owners of Pods")
        self._undelivered_pods: OrderedDict[ObjectKey, Object] = OrderedDict()
        self._ended_uids: OrderedDict[str, None] = OrderedDict()
        self._pods_changed = asyncio.Condition()
        self._has_changes = asyncio.Event()
        self.pods.listen(self._on_changed_keys)
        self.pods.add_handler(self._on_transition)

    async def run(self) -> None:
        """Watch until cancelled."""
        watches = (reflector.run() for reflector in self.reflectors)
        await until_all(*watches, self._owner_queue.run(), self._wake_waiting_adds())

    @property
    def reflectors(self) -> Sequence[Reflector[Any]]:
        """All reflectors."""
        return self.pods, self.nodes, self.namespaces, self.stateful_sets

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        """The cached facts; None if the Pod or its top controller is not cached."""
        key = _key(reference)
        pod = None if key is None else self._known_pod(key, reference.uid)
        if pod is None or not self._owners.is_cached(controller_of(pod)):
            return None
        return self.facts(reference)

    async def load_pod(self, reference: PodReference) -> None:
        """Load the Pod of an ADD and the Pod's owners.

        Raises WrongInput if the Pod does not exist, NotReady if the API server does not answer.
        """
        key = _key(reference)
        if key is None:
            text = "the runtime did not name the Pod"
            raise WrongInput(text, remedy="set K8S_POD_NAME and K8S_POD_NAMESPACE in CNI_ARGS")
        try:
            owner = controller_of(await self._find_pod(key, reference.uid))
            if not self._owners.is_cached(owner):
                await self._owners.load_parent(owner)
        except ApiNotFound:
            raise WrongInput(
                f"there is no Pod {'/'.join(key)}",
                subject="/".join(key),
                remedy="do nothing if the Pod was deleted; otherwise check K8S_POD_UID in CNI_ARGS",
            ) from None
        except ApiError as error:
            message = f"cannot read Pod {'/'.join(key)}, which the watch has not delivered: {error}"
            remedy = "check that the API server can be reached"
            raise NotReady(message, subject="/".join(key), remedy=remedy) from None

    async def confirm_pod_exists(self, reference: PodReference) -> None:
        """Confirm that the API server has the Pod with its UID. Raises WrongInput, NotReady.

        This proves that an earlier Pod of the same name is gone.
        """
        key = _key(reference)
        if key is None:
            return
        uid = self.facts(reference).pod.uid
        path = "/".join(key)
        self.reads += 1
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                pod = await self._api.find(_path(key))
        except (ApiError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            message = f"cannot confirm that Pod {path} replaced another Pod of this name: {why}"
            remedy = "check that the API server can be reached"
            raise NotReady(message, subject=path, remedy=remedy) from None
        if pod is None or not _has_uid(pod, uid):
            raise WrongInput(
                f"Pod {path} with UID {uid} does not exist any more",
                subject=path,
                remedy="do nothing: kubelet deletes the sandbox of a deleted Pod",
            )

    def liveness(self, reference: PodReference) -> Liveness | None:
        """Whether a Pod has ended, from cached facts; None if the API server must be read.

        Cached facts cannot prove that a Pod still runs.
        """
        key, uid = _key(reference), reference.uid
        if key is None:
            return Liveness(alive=None)
        if not uid:
            return None
        pod = self._known_pod(key, uid)
        has_ended = uid in self._ended_uids or (pod is not None and not is_alive(pod))
        return Liveness(alive=False) if has_ended else None

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        """Like ``liveness``, but reads the API server if cached facts do not decide."""
        key, uid = _key(reference), reference.uid
        cached_liveness = self.liveness(reference)
        if cached_liveness is not None or key is None:
            return cached_liveness or Liveness(alive=None)
        self.reads += 1
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                pod = await self._api.find(_path(key))
        except (ApiError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            doubt = f"the API server did not confirm that Pod {'/'.join(key)} has ended: {why}"
            _log.warning("kept the addresses of Pod %s: %s", "/".join(key), doubt)
            return Liveness(alive=None, doubt=doubt)
        current_pod = cached_part(pod) if pod is not None else None
        if current_pod is not None and _has_uid(current_pod, uid) and is_alive(current_pod):
            return Liveness(alive=True)
        cached_pod = self._known_pod(key, uid)
        cached_uid = cached_pod["metadata"]["uid"] if cached_pod is not None else ""
        for ended_uid in {uid, cached_uid} - {""}:
            self._remember_end(ended_uid)
        return Liveness(alive=False)

    def facts(self, reference: PodReference) -> RequestFacts:
        """The cached facts; for an unknown Pod, the facts in ``reference``."""
        key = _key(reference) or (reference.namespace or DEFAULT_NAMESPACE, reference.container)
        known_pod = self._known_pod(key, reference.uid)
        namespace = self._namespace(key[0])
        if known_pod is None:
            pod = PodFacts(*key, reference.uid or reference.container, self._node, known=False)
            return RequestFacts(pod, namespace, self.node())
        return RequestFacts(self._pod(key, known_pod), namespace, self.node())

    def node(self) -> NodeFacts:
        """The facts of the Node."""
        node = self.nodes.objects.get(("", self._node))
        if node is None:
            return NodeFacts(self._node)
        return NodeFacts(self._node, node["metadata"].get("labels", {}), known=True)

    def endpoint_validity(self, endpoint: Endpoint) -> Validity | None:
        """Whether fixed addresses are still needed, from watched objects. None: not fixed."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        if kind is None:
            return None
        return validity_of(kind, *endpoint.key, self._owners)

    async def confirm_endpoint(self, endpoint: Endpoint) -> Validity | None:
        """Like ``endpoint_validity``, but reads the API server unless that state is "valid"."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        watched_validity = self.endpoint_validity(endpoint)
        if kind is None or watched_validity is None or watched_validity.state == "valid":
            return watched_validity
        self.reads += 1
        return validity_of(kind, *endpoint.key, await self._owners.read_owners(kind, *endpoint.key))

    async def _find_pod(self, key: ObjectKey, uid: str) -> Object:
        """The Pod from the watch, or from the API server if the watch is late. Raises ApiError."""
        if pod := self._known_pod(key, uid):
            return pod
        if self.pods.listed.is_set() and not self.pods.fault:
            try:
                async with asyncio.timeout(WATCH_WAIT_S_MAX), self._pods_changed:
                    await self._pods_changed.wait_for(lambda: self._known_pod(key, uid))
            except TimeoutError:
                pass
            else:
                delivered_pod = self._known_pod(key, uid)
                assert delivered_pod is not None
                return delivered_pod
        self.reads += 1
        pod = cached_part(await self._api.get(_path(key)))
        if not _has_uid(pod, uid):
            raise ApiNotFound(f"the Pod of that name does not have the UID {uid}")
        self._undelivered_pods[key] = pod
        while len(self._undelivered_pods) > UNDELIVERED_PODS_MAX:
            self._undelivered_pods.popitem(last=False)
        return pod

    def _known_pod(self, key: ObjectKey, uid: str) -> Object | None:
        """The cached Pod; None if it has another UID or has ended. ``uid`` "": any UID."""
        for objects in (self.pods.objects, self._undelivered_pods):
            pod = objects.get(key)
            if (
                pod is not None
                and _has_uid(pod, uid)
                and pod["metadata"]["uid"] not in self._ended_uids
            ):
                return pod
        return None

    def _remember_end(self, uid: str) -> None:
        """Remember that a Pod has ended: the watch may still deliver it as running."""
        self._ended_uids[uid] = None
        while len(self._ended_uids) > ENDED_UIDS_MAX:
            self._ended_uids.popitem(last=False)

    def _pod(self, key: ObjectKey, pod: Object) -> PodFacts:
        metadata = pod["metadata"]
        owner = controller_of(pod)
        fixed = kind_of_pod(key[1], owner, self._fixed)
        annotations = metadata.get("annotations", {})
        ipam_claims = ipam_claims_of(annotations, key[0]) if self._fixed.ipam_claims else NO_CLAIMS
        return PodFacts(
            *key,
            metadata["uid"],
            self._node,
            labels=metadata.get("labels", {}),
            annotations=annotations,
            owner=None if owner is None else self._owners.top(owner),
            alive=is_alive(pod),
            fixed=fixed,
            endpoint_name=owner.name if fixed == "vm" and owner is not None else "",
            migrating=(fixed == "vm" or bool(ipam_claims)) and MIGRATION_ANNOTATION in annotations,
            claims=ipam_claims,
        )

    def _namespace(self, name: str) -> NamespaceFacts:
        namespace = self.namespaces.objects.get(("", name))
        if namespace is None:
            return NamespaceFacts(name)
        metadata = namespace["metadata"]
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        return NamespaceFacts(name, labels, annotations, known=True)

    def _on_changed_keys(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            self._undelivered_pods.pop(key, None)
        self._owner_queue.add(keys)
        self._has_changes.set()

    def _on_transition(self, change: Transition[Object]) -> None:
        """Remember reported ends; the absence of a Pod from a list does not prove its end (I6)."""
        if change.reported and change.after is None and change.before is not None:
            self._remember_end(change.before["metadata"]["uid"])

    async def _wake_waiting_adds(self) -> None:
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            async with self._pods_changed:
                self._pods_changed.notify_all()

    async def _load_owner(self, key: ObjectKey) -> None:
        pod = self.pods.objects.get(key)
        if pod is not None:
            await self._owners.load_parent(controller_of(pod))


def _path(key: ObjectKey) -> str:
    return f"/api/v1/namespaces/{segment(key[0])}/pods/{segment(key[1])}"


def _key(reference: PodReference) -> ObjectKey | None:
    namespace, name, *_ = reference
    return (namespace, name) if namespace and name else None


def _has_uid(pod: Object, uid: str) -> bool:
    return not uid or bool(pod["metadata"]["uid"] == uid)
