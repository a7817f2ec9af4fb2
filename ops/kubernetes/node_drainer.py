"""Cordons, drains and uncordons nodes through the API server, for changes of virtual functions.

An agent requests the drain of its node with a list of Pods. Only Pods of that node are evicted. The
eviction API respects PodDisruptionBudgets.
"""

from __future__ import annotations

import json
from typing import Final

from core.errors import ApiError, ApiNotFound
from core.kubernetes.api_client import Api, Object, segment
from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_states import (
    BLOCKING_PODS,
    CURRENT_DRAIN_STATE,
    DRAIN_LABEL,
    DRAIN_REQUIRED,
    DRAINING,
    IDLE,
)
from workflows.jobs.node_drain.drainer import DrainObservation, bounded_observation

CORDONED: Final = "cordoned"
WAS_UNSCHEDULABLE: Final = "was-unschedulable"
"""The values of ``DRAIN_LABEL`` on a Node, which ``uncordon`` reads.

``CORDONED``: ``uncordon`` makes the Node schedulable. ``WAS_UNSCHEDULABLE``: the Node was
unschedulable before ``cordon``, and stays so.
"""

NODES: Final = "/api/v1/nodes"
PODS_MAX: Final = 256
"""The largest number of Pods that one call of ``evict`` evicts; it ignores further Pods."""


class KubernetesNodeDrainer:
    """The ``NodeDrainer`` of a cluster. SriovNetworkNodeStates are in ``namespace``."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._states = f"/apis/{API_VERSION}/namespaces/{segment(namespace)}/sriovnetworknodestates"

    async def observe(self) -> DrainObservation:
        """See ``NodeDrainer``."""
        # Agents label their SriovNetworkNodeState to request a drain; ``cordon`` labels Nodes.
        states = await self._api.list(f"{self._states}?labelSelector={DRAIN_LABEL}")
        cordoned = await self._api.names(f"{NODES}?labelSelector={DRAIN_LABEL}")
        states_with_request = {
            state["metadata"]["name"]: state
            for state in states.items
            if state["metadata"]["labels"][DRAIN_LABEL] == DRAIN_REQUIRED
        }
        existing = await self._api.names(NODES) if states_with_request else set()
        pods = {
            node: blocking_pods(states_with_request[node])
            for node in states_with_request.keys() & existing
        }
        return bounded_observation(pods, cordoned)

    async def cordon(self, node: str) -> None:
        """See ``NodeDrainer``."""
        path = f"{NODES}/{segment(node)}"
        current = await self._api.find(path)
        if current is None:
            return
        if DRAIN_LABEL not in (current["metadata"].get("labels") or {}):
            was_unschedulable = bool((current.get("spec") or {}).get("unschedulable"))
            label = WAS_UNSCHEDULABLE if was_unschedulable else CORDONED
            await self._api.merge(
                path,
                {
                    "metadata": {
                        "resourceVersion": current["metadata"]["resourceVersion"],
                        "labels": {DRAIN_LABEL: label},
                    },
                    "spec": {"unschedulable": True},
                },
            )
        await self._annotate_drain_state(node, DRAINING)

    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """See ``NodeDrainer``."""
        failures = []
        for pod in pods[:PODS_MAX]:
            namespace, _, name = pod.partition("/")
            path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(name)}"
            current = await self._api.find(path)
            if current is None or (current.get("spec") or {}).get("nodeName") != node:
                continue
            if "deletionTimestamp" not in current["metadata"]:
                failures += await self._evict(path, current)
        return tuple(failures)

    async def uncordon(self, node: str) -> None:
        """See ``NodeDrainer``."""
        path = f"{NODES}/{segment(node)}"
        current = await self._api.find(path)
        label = (current or {}).get("metadata", {}).get("labels", {}).get(DRAIN_LABEL)
        if current is not None and label is not None:
            change: Object = {
                "metadata": {
                    "resourceVersion": current["metadata"]["resourceVersion"],
                    "labels": {DRAIN_LABEL: None},
                }
            }
            if label == CORDONED:
                change["spec"] = {"unschedulable": None}
            await self._api.merge(path, change)
        await self._annotate_drain_state(node, IDLE)

    async def _evict(self, path: str, pod: Object) -> list[str]:
        """Request an eviction; return [failure], or [] if it began or the Pod is gone."""
        metadata = {key: pod["metadata"][key] for key in ("namespace", "name")}
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": metadata,
            "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
        }
        try:
            await self._api.create(f"{path}/eviction", eviction)
        except ApiNotFound:
            return []
        except ApiError as error:  # 429: a PodDisruptionBudget; 409: another Pod with this name
            return [f"{metadata['namespace']}/{metadata['name']}: {error}"]
        return []

    async def _annotate_drain_state(self, node: str, state: str) -> None:
        """Set ``CURRENT_DRAIN_STATE`` of the node's SriovNetworkNodeState, if it exists."""
        change = {"metadata": {"annotations": {CURRENT_DRAIN_STATE: state}}}
        try:
            await self._api.merge(f"{self._states}/{segment(node)}", change)
        except ApiNotFound:
            return


def blocking_pods(state: Object) -> tuple[str, ...]:
    """The Pods in the annotation of a SriovNetworkNodeState; () if malformed."""
    text = (state["metadata"].get("annotations") or {}).get(BLOCKING_PODS, "[]")
    try:
        pods = json.loads(text)
    except ValueError:
        return ()
    if not isinstance(pods, list):
        return ()
    return tuple(pod for pod in pods if isinstance(pod, str) and pod.count("/") == 1)
