"""Facts of a request from the API server's objects, watched ahead of it.

The agent watches the Pods of its own node, its Node, Namespaces and StatefulSets. kubelet is often
quicker than the watch: a Pod that was not seen yet is waited for a moment and then read once. What
the watch has shown keeps addresses; before one is freed the API server is asked, unless the watch
has reported the Pod's end itself (I6).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from core.domain.facts import NamespaceFacts, NodeFacts, PodFacts, PodReference, RequestFacts
from core.domain.fixed.kinds import FixedSettings, kind_of_holder, kind_of_pod
from core.domain.fixed.validity import Validity, validity_of
from core.domain.model import Endpoint
from core.errors import ApiError, ApiNotFound, NotReady, WrongInput
from core.kubernetes.api import Api, Object, segment
from core.kubernetes.informer import Informer, ObjectKey, Reflector, Transition
from core.kubernetes.work_queue import WorkQueue
from core.kubernetes.workloads.owners import stateful_set_state
from core.kubernetes.workloads.pods import controller_of, is_alive, kept
from core.process.concurrency import until_all
from nodeagent.facts import CONFIRM_S_MAX, DEFAULT_NAMESPACE, MIGRATION, Liveness
from nodeagent.kubernetes.owners import OwnerCache

SEEN_S_MAX: Final = 2.0
"""How long the watch may take to bring a Pod that kubelet already starts."""

REMEMBERED_MAX: Final = 512
"""Pods that were read because the watch was behind."""

ENDED_MAX: Final = 4_096
"""UIDs of Pods that are known to have ended; of others the API server is asked once more."""

_log: Final = logging.getLogger(__name__)


class KubernetesFacts:
    """A ``FactsSource``; ``run`` keeps it up to date."""

    def __init__(self, api: Api, node: str, fixed: FixedSettings) -> None:
        self.pods = Informer(api, f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}", kept)
        self.nodes = Informer(api, f"/api/v1/nodes?fieldSelector=metadata.name%3D{node}", kept)
        self.namespaces = Informer(api, "/api/v1/namespaces", kept)
        self.stateful_sets = Reflector(api, "/apis/apps/v1/statefulsets", stateful_set_state)
        self.reads = 0
        self._api = api
        self._node = node
        self._fixed = fixed
        self._owners = OwnerCache(api, self.stateful_sets)
        self._chains = WorkQueue(self._learn_owner, "owners of Pods")
        self._read: OrderedDict[ObjectKey, Object] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._seen = asyncio.Condition()
        self._arrivals = asyncio.Event()
        self.pods.listen(self._on_pods)
        self.pods.add_handler(self._on_pod)

    async def run(self) -> None:
        """Watch until cancelled."""
        followed = (one.run() for one in self.followers)
        await until_all(*followed, self._chains.run(), self._announce())

    @property
    def followers(self) -> Sequence[Reflector[Any]]:
        """What it follows."""
        return self.pods, self.nodes, self.namespaces, self.stateful_sets

    async def learn(self, reference: PodReference) -> None:
        """See to it that ``facts`` knows the Pod of an ADD.

        Raises WrongInput when there is none, NotReady when the API server cannot be asked.
        """
        key = _key(reference)
        if key is None:
            raise WrongInput("the runtime names no Pod", remedy="K8S_POD_NAME has to be given")
        try:
            one = await self._found(key, reference.uid)
            owner = controller_of(one)
            if not self._owners.knows(owner):
                await self._owners.learn(owner)
        except ApiNotFound:
            raise WrongInput(f"there is no Pod {'/'.join(key)}", subject="/".join(key)) from None
        except ApiError as error:
            message = f"Pod {'/'.join(key)} was not seen yet and cannot be read: {error}"
            raise NotReady(message, subject="/".join(key), remedy="is the API server up?") from None

    async def confirm_current(self, reference: PodReference) -> None:
        """See ``FactsSource``. Two Pods of a name never exist at once."""
        key = _key(reference)
        if key is None:
            return
        uid = self.facts(reference).pod.uid
        path = "/".join(key)
        self.reads += 1
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                one = await self._api.find(_path(key))
        except (ApiError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            message = f"whether Pod {path} has replaced another one of its name is unknown: {why}"
            raise NotReady(message, subject=path, remedy="is the API server up?") from None
        if one is None or not _is(one, uid):
            raise WrongInput(f"Pod {path}, UID {uid}, does not exist any more", subject=path)

    def liveness(self, reference: PodReference) -> Liveness | None:
        """Certain is the end of a Pod of this UID, since none is taken back."""
        key, uid = _key(reference), reference.uid
        if key is None:
            return Liveness(None)
        if not uid:
            return None
        one = self._known(key, uid)
        ended = uid in self._ended or (one is not None and not is_alive(one))
        return Liveness(alive=False) if ended else None

    async def confirm(self, reference: PodReference) -> Liveness:
        """See ``FactsSource``. Of a sandbox that is replaced the Pod lives on."""
        key, uid = _key(reference), reference.uid
        known = self.liveness(reference)
        if known is not None or key is None:
            return known or Liveness(None)
        self.reads += 1
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                one = await self._api.find(_path(key))
        except (ApiError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            doubt = f"whether Pod {'/'.join(key)} still runs is unknown: {why}"
            _log.warning("kept the addresses of Pod %s: %s", "/".join(key), doubt)
            return Liveness(None, doubt)
        now = kept(one) if one is not None else None
        if now is not None and _is(now, uid) and is_alive(now):
            return Liveness(alive=True)
        seen = self._known(key, uid)
        for ended in {uid, seen["metadata"]["uid"] if seen is not None else ""} - {""}:
            self._remember_end(ended)
        return Liveness(alive=False)

    def facts(self, reference: PodReference) -> RequestFacts:
        """What is known now; of a Pod that is not there, only what the request says."""
        key = _key(reference) or (reference.namespace or DEFAULT_NAMESPACE, reference.container)
        one = self._known(key, reference.uid)
        namespace = self._namespace(key[0])
        if one is None:
            pod = PodFacts(*key, reference.uid or reference.container, self._node, known=False)
            return RequestFacts(pod, namespace, self.node())
        return RequestFacts(self._pod(key, one), namespace, self.node())

    def node(self) -> NodeFacts:
        """By its watched Node."""
        one = self.nodes.objects.get(("", self._node))
        if one is None:
            return NodeFacts(self._node)
        return NodeFacts(self._node, one["metadata"].get("labels", {}), known=True)

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """By the StatefulSet as it was last seen."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        if kind is None:
            return None
        return validity_of(kind, *endpoint.key, self._owners)

    async def confirm_wanted(self, endpoint: Endpoint) -> Validity | None:
        """By the StatefulSet, the VM instance or the VM as the API server has it now."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        seen = self.wanted(endpoint)
        if kind is None or seen is None or seen.state == "valid":
            return seen
        self.reads += 1
        return validity_of(kind, *endpoint.key, await self._owners.ask(kind, *endpoint.key))

    async def _found(self, key: ObjectKey, uid: str) -> Object:
        """The Pod: seen, or seen within a moment, or read. Raises ApiError."""
        if one := self._known(key, uid):
            return one
        if self.pods.listed.is_set() and not self.pods.fault:
            try:
                async with asyncio.timeout(SEEN_S_MAX), self._seen:
                    await self._seen.wait_for(lambda: self._known(key, uid))
            except TimeoutError:
                pass
            else:
                found = self._known(key, uid)
                assert found is not None
                return found
        self.reads += 1
        one = kept(await self._api.get(_path(key)))
        if not _is(one, uid):
            raise ApiNotFound(f"the Pod of that name is another one, not {uid}")
        self._read[key] = one
        while len(self._read) > REMEMBERED_MAX:
            self._read.popitem(last=False)
        return one

    def _known(self, key: ObjectKey, uid: str) -> Object | None:
        """The Pod as it was last seen or read, if it is the one with this UID."""
        for objects in (self.pods.objects, self._read):
            one = objects.get(key)
            if one is not None and _is(one, uid) and one["metadata"]["uid"] not in self._ended:
                return one
        return None

    def _remember_end(self, uid: str) -> None:
        """This Pod has ended, whatever the watch still shows."""
        self._ended[uid] = None
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _pod(self, key: ObjectKey, one: Object) -> PodFacts:
        metadata = one["metadata"]
        owner = controller_of(one)
        fixed = kind_of_pod(key[1], owner, self._fixed)
        annotations = metadata.get("annotations", {})
        return PodFacts(
            *key,
            metadata["uid"],
            self._node,
            labels=metadata.get("labels", {}),
            annotations=annotations,
            owner=None if owner is None else self._owners.top(owner),
            alive=is_alive(one),
            fixed=fixed,
            endpoint_name=owner.name if fixed == "vm" and owner is not None else "",
            migrating=fixed == "vm" and MIGRATION in annotations,
        )

    def _namespace(self, name: str) -> NamespaceFacts:
        one = self.namespaces.objects.get(("", name))
        if one is None:
            return NamespaceFacts(name)
        metadata = one["metadata"]
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        return NamespaceFacts(name, labels, annotations, known=True)

    def _on_pods(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            self._read.pop(key, None)
        self._chains.add(keys)
        self._arrivals.set()

    def _on_pod(self, change: Transition[Object]) -> None:
        """The deletion that a watch reports is certain; that a list lacks a Pod is not (I6)."""
        if change.reported and change.after is None and change.before is not None:
            self._remember_end(change.before["metadata"]["uid"])

    async def _announce(self) -> None:
        """Wake who waits for a Pod."""
        while True:
            await self._arrivals.wait()
            self._arrivals.clear()
            async with self._seen:
                self._seen.notify_all()

    async def _learn_owner(self, key: ObjectKey) -> None:
        """Know a Pod's chain of controllers before its ADD asks."""
        one = self.pods.objects.get(key)
        if one is not None:
            await self._owners.learn(controller_of(one))


def _path(key: ObjectKey) -> str:
    return f"/api/v1/namespaces/{segment(key[0])}/pods/{segment(key[1])}"


def _key(reference: PodReference) -> ObjectKey | None:
    namespace, name, *_ = reference
    return (namespace, name) if namespace and name else None


def _is(one: Object, uid: str) -> bool:
    return not uid or bool(one["metadata"]["uid"] == uid)
