"""Watches SriovNetworkNodePolicies, this Node and its SriovNetworkNodeState; writes the state.

Policies of all namespaces apply. The ``spec`` of the state lists the NICs that this agent manages.
The annotations of the state ask the controllers to drain the node, as with the SR-IOV network
operator. The Node owns the state, so Kubernetes deletes the state with the Node.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from core.domain.sriov.model import NodePolicy
from core.domain.sriov.vf_plan import DesiredNic
from core.errors import BadInput
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import ObjectKey, Reflector, Transition
from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_policy_parser import node_policy_of
from core.manifests.sriov_states import (
    BLOCKING_PODS,
    DESIRED_DRAIN_STATE,
    DRAIN_LABEL,
    DRAIN_REQUIRED,
    IDLE,
    node_state,
    node_state_status,
)
from core.process.concurrency import until_all
from nodeagent.sriov.reconciler import NodeConfiguration, NodeReport

POLICIES: Final = f"/apis/{API_VERSION}/sriovnetworknodepolicies"
FIELD_MANAGER: Final = "orbweaver-agent"
OPERATOR_LABEL: Final = "app"
OPERATOR_DAEMON: Final = "sriov-network-config-daemon"
BLOCKING_PODS_MAX: Final = 256
"""Blocking Pods in one drain request. A later request lists the others."""

StateWriter: TypeAlias = Callable[[str, Object, str], Awaitable[Object]]
"""Writes a body to a path of the API server, as a field manager. Raises ApiError."""


class CachedNode(NamedTuple):
    """The cached part of the Node."""

    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    uid: str


class CachedState(NamedTuple):
    """The cached part of the SriovNetworkNodeState.

    ``managed``: PCI addresses of NICs that the agent manages.
    """

    managed: frozenset[str] = frozenset()
    drain_annotations: Mapping[str, str] = {}
    requests_drain: bool = False


class CachedPolicy(NamedTuple):
    """A policy. ``policy`` None: it cannot be used, and ``fault`` says why."""

    policy: NodePolicy | None
    fault: str = ""


class KubernetesSriov:
    """The ``PolicySource`` of a cluster. ``pods``: the watched Pods of this node."""

    def __init__(self, api: Api, node: str, namespace: str, pods: Reflector[Object]) -> None:
        by_name = f"?fieldSelector=metadata.name%3D{node}"
        self._states_path = (
            f"/apis/{API_VERSION}/namespaces/{segment(namespace)}/sriovnetworknodestates"
        )
        self.policies = Reflector(api, POLICIES, cached_policy)
        self.nodes = Reflector(api, f"/api/v1/nodes{by_name}", cached_node)
        self.states = Reflector(api, self._states_path + by_name, cached_state)
        self._api = api
        self._node = node
        self._key = namespace, node
        self._pods = pods
        self._changed = asyncio.Event()
        self._desired_nics: Sequence[DesiredNic] = ()
        self._last_body_by_subresource: dict[str, Object] = {}
        for reflector in (self.policies, self.nodes):
            reflector.add_handler(self._on_change)
        self.states.add_handler(self._on_state)
        pods.listen(self._on_pods)

    async def run(self) -> None:
        """Watch until cancelled."""
        watches = (reflector.run() for reflector in self.reflectors)
        await until_all(*watches, self._wake_once_listed())

    @property
    def reflectors(self) -> Sequence[Reflector[Any]]:
        """All reflectors."""
        return self.policies, self.nodes, self.states

    def configuration(self) -> NodeConfiguration | None:
        """The configuration; None until all objects are listed, and while the Node is unknown."""
        node = self.nodes.objects.get(("", self._node))
        are_listed = all(reflector.listed.is_set() for reflector in (*self.reflectors, self._pods))
        if node is None or not are_listed:
            return None
        policies = [self.policies.objects[key] for key in sorted(self.policies.objects)]
        return NodeConfiguration(
            [entry.policy for entry in policies if entry.policy is not None],
            node.labels,
            own_addresses=node.addresses,
            managed=self._state.managed,
            unreadable=[entry.fault for entry in policies if entry.fault],
            operator=self._operator(),
        )

    async def declare(self, desired: Sequence[DesiredNic]) -> None:
        """Write the desired NICs to the state's ``spec``. Raises ApiError."""
        self._desired_nics = desired
        await self._write_state(self._state.drain_annotations)

    async def report(self, report: NodeReport) -> None:
        """Write the result of a reconciliation and, if needed, a drain request. Raises ApiError."""
        annotations: Mapping[str, str] = {DESIRED_DRAIN_STATE: IDLE}
        if report.keeps_request:
            annotations = self._state.drain_annotations
        elif report.needs_drain:
            annotations = {
                DESIRED_DRAIN_STATE: DRAIN_REQUIRED,
                BLOCKING_PODS: json.dumps(report.blocking[:BLOCKING_PODS_MAX]),
            }
        status = node_state_status(self._node, report.nics, report.external, report.result)
        # The operator's CRD lacks some of our fields. The API server ignores unknown fields in a
        # merge patch, but refuses an apply patch with unknown fields.
        await self._write("/status", status, self._api.merge)
        await self._write_state(annotations)

    async def withdraw_drain_request(self) -> None:
        """Withdraw the drain request. Raises ApiError.

        The rest of the state is not written, because other programs may own it.
        """
        if not self._state.requests_drain:
            return
        change = {
            "metadata": {"labels": {DRAIN_LABEL: None}, "annotations": {DESIRED_DRAIN_STATE: IDLE}}
        }
        await self._api.merge(f"{self._states_path}/{segment(self._node)}", change)

    async def changed(self) -> None:
        """Wait for a change of ``configuration``."""
        await self._changed.wait()
        self._changed.clear()

    async def _wake_once_listed(self) -> None:
        for reflector in (*self.reflectors, self._pods):
            await reflector.listed.wait()
        self._changed.set()

    @property
    def _state(self) -> CachedState:
        return self.states.objects.get(self._key) or CachedState()

    async def _write_state(self, annotations: Mapping[str, str]) -> None:
        body = node_state(self._node, self._desired_nics)
        body["metadata"]["annotations"] = dict(annotations)
        if node := self.nodes.objects.get(("", self._node)):
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node.uid}
            body["metadata"]["ownerReferences"] = [owner]
        if annotations.get(DESIRED_DRAIN_STATE) == DRAIN_REQUIRED:
            body["metadata"]["labels"] = {DRAIN_LABEL: DRAIN_REQUIRED}
        await self._write("", body, self._api.apply)

    async def _write(self, subresource: str, body: Object, write: StateWriter) -> None:
        if (
            self._last_body_by_subresource.get(subresource) == body
            and self._key in self.states.objects
        ):
            return
        path = f"{self._states_path}/{segment(self._node)}{subresource}"
        # Noted before the write, so that ``_on_state`` can discard it during the write.
        self._last_body_by_subresource[subresource] = body
        try:
            await write(path, body, FIELD_MANAGER)
        except BaseException:
            self._last_body_by_subresource.pop(subresource, None)
            raise

    def _operator(self) -> str:
        """The Pod of the operator's daemon on this node; "" if there is none."""
        return next(
            (
                "/".join(key)
                for key, pod in self._pods.objects.items()
                if pod["metadata"].get("labels", {}).get(OPERATOR_LABEL) == OPERATOR_DAEMON
            ),
            "",
        )

    def _on_change(self, change: Transition[Any]) -> None:
        # Heartbeats of the Node do not change the cached part.
        if change.before != change.after:
            self._changed.set()

    def _on_state(self, change: Transition[CachedState]) -> None:
        """Make the next reconciliation write the state, to revert changes by other programs."""
        if change.before != change.after:
            self._last_body_by_subresource.clear()
            self._changed.set()

    def _on_pods(self, keys: set[ObjectKey]) -> None:
        """A Pod that has ended may have blocked a change."""
        if any(key not in self._pods.objects for key in keys):
            self._changed.set()


def cached_policy(policy: Object) -> CachedPolicy:
    """The cached part of a policy."""
    metadata = policy["metadata"]
    try:
        return CachedPolicy(node_policy_of(policy, f"{metadata['namespace']}/{metadata['name']}"))
    except BadInput as error:
        return CachedPolicy(None, str(error))


def cached_node(node: Object) -> CachedNode:
    """The cached part of a Node."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    return CachedNode(
        node["metadata"].get("labels") or {},
        tuple(entry["address"] for entry in addresses),
        node["metadata"]["uid"],
    )


def cached_state(state: Object) -> CachedState:
    """The cached part of a SriovNetworkNodeState."""
    interfaces = (state.get("spec") or {}).get("interfaces") or ()
    annotations = state["metadata"].get("annotations") or {}
    return CachedState(
        frozenset(
            nic["pciAddress"] for nic in interfaces if not nic.get("externallyManaged", False)
        ),
        {
            name: annotations[name]
            for name in (DESIRED_DRAIN_STATE, BLOCKING_PODS)
            if name in annotations
        },
        DRAIN_LABEL in (state["metadata"].get("labels") or {}),
    )
