"""Facts of a request from the API server's objects, watched ahead of it.

The agent watches the Pods of its own node, its Node, Namespaces and StatefulSets. kubelet is often
quicker than the watch: a Pod that was not seen yet is waited for a moment and then read once, and
one that seems to live at its DEL is read once too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from core.domain.facts import Facts, NamespaceFacts, NodeFacts, PodFacts
from core.domain.fixed.kinds import FixedSettings, kind_of_holder, kind_of_pod
from core.domain.fixed.validity import Validity, validity_of
from core.domain.model import Endpoint
from core.errors import ApiError, ApiNotFound, NotReady, WrongInput
from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Follower, Informer, ObjectKey
from core.kubernetes.worklist import Worklist
from core.kubernetes.workloads.owners import stateful_set_state
from core.kubernetes.workloads.pods import controller_of, is_alive, kept
from nodeagent.facts import MIGRATION, NAMESPACE_UNSAID, PodReference
from nodeagent.kubernetes.owners import Owners

SEEN_S_MAX: Final = 2.0
"""How long the watch may take to bring a Pod that kubelet already starts."""

REMEMBERED_MAX: Final = 512
"""Pods that were read because the watch was behind."""

_log: Final = logging.getLogger(__name__)


class KubernetesFacts:
    """A ``FactsSource``; ``run`` keeps it up to date."""

    def __init__(self, api: Api, node: str, fixed: FixedSettings) -> None:
        self.pods = Informer(api, f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}", kept)
        self.nodes = Informer(api, f"/api/v1/nodes?fieldSelector=metadata.name%3D{node}", kept)
        self.namespaces = Informer(api, "/api/v1/namespaces", kept)
        self.stateful_sets = Follower(api, "/apis/apps/v1/statefulsets", stateful_set_state)
        self.reads = 0
        self._api = api
        self._node = node
        self._fixed = fixed
        self._owners = Owners(api, self.stateful_sets)
        self._chains = Worklist(self._learn_owner, "owners of Pods")
        self._read: OrderedDict[ObjectKey, Object] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._seen = asyncio.Condition()
        self._arrivals = asyncio.Event()
        self.pods.listen(self._on_pods)

    async def run(self) -> None:
        """Watch until cancelled."""
        informers = (self.pods, self.nodes, self.namespaces)
        await asyncio.gather(
            *(informer.run() for informer in informers),
            *(self.stateful_sets.run(), self._chains.run(), self._announce()),
        )

    async def learn(self, reference: PodReference) -> None:
        """See to it that ``facts`` knows the Pod of an ADD.

        Raises WrongInput when there is none, NotReady when the API server cannot be asked.
        """
        key = _key(reference)
        if key is None:
            raise WrongInput("the runtime names no Pod", remedy="K8S_POD_NAME has to be given")
        try:
            one = await self._found(key, reference.pod.uid)
            owner = controller_of(one)
            if not self._owners.knows(owner):
                await self._owners.learn(owner)
        except ApiNotFound:
            raise WrongInput(f"there is no Pod {'/'.join(key)}", subject="/".join(key)) from None
        except ApiError as error:
            message = f"Pod {'/'.join(key)} was not seen yet and cannot be read: {error}"
            raise NotReady(message, subject="/".join(key), remedy="is the API server up?") from None

    async def confirm(self, reference: PodReference) -> None:
        """Ask again about a Pod that a DEL speaks of and that seems to live.

        Otherwise the DEL of one that was deleted by force this instant would release nothing, and
        no other comes. While the API server is away, what was seen last counts.
        """
        key = _key(reference)
        one = self._known(key, reference.pod.uid) if key else None
        if key is None or one is None or not is_alive(one):
            return
        uid = one["metadata"]["uid"]
        self.reads += 1
        try:
            async with asyncio.timeout(SEEN_S_MAX):
                now = kept(await self._api.get(_path(key)))
        except ApiNotFound:
            self._remember_end(uid)
        except (ApiError, TimeoutError) as error:
            _log.warning("Pod %s/%s may live or not: %s", *key, error)
        else:
            if not (_is(now, uid) and is_alive(now)):
                self._remember_end(uid)

    def facts(self, reference: PodReference) -> Facts:
        """What is known now; of a Pod that is not there, only what the request says."""
        arguments, container = reference
        key = _key(reference) or (arguments.namespace or NAMESPACE_UNSAID, container)
        one = self._known(key, arguments.uid)
        namespace = self._namespace(key[0])
        if one is None:
            pod = PodFacts(*key, arguments.uid or container, self._node, known=False)
            return Facts(pod, namespace, self.node())
        return Facts(self._pod(key, one), namespace, self.node())

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
        while len(self._ended) > REMEMBERED_MAX:
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
    return f"/api/v1/namespaces/{key[0]}/pods/{key[1]}"


def _key(reference: PodReference) -> ObjectKey | None:
    pod = reference.pod
    return (pod.namespace, pod.name) if pod.namespace and pod.name else None


def _is(one: Object, uid: str) -> bool:
    return not uid or bool(one["metadata"]["uid"] == uid)
