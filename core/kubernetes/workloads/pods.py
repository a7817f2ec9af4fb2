"""Reads the fields of Pods and Nodes that decisions need. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast, get_args

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.fixed.ipam_claims import ipam_claims_of
from core.domain.model import Owner
from core.domain.reclaim.evidence import NodeState, Phase, PodState
from core.kubernetes.api_client import Object

GRACE_S: Final = 30.0
"""The API server's default of ``terminationGracePeriodSeconds``."""

_METADATA: Final = (
    "namespace",
    "name",
    "uid",
    "resourceVersion",
    "deletionTimestamp",
    "labels",
    "annotations",
    "ownerReferences",
)
_PHASES: Final = frozenset(get_args(Phase))
_STATUSES: Final = ("initContainerStatuses", "containerStatuses")


def cached_part(pod: Object) -> Object:
    """The fields of a Pod that decisions read, without containers, to save memory."""
    metadata = {name: pod["metadata"][name] for name in _METADATA if name in pod["metadata"]}
    policy = pod.get("spec", {}).get("restartPolicy", "Always")
    status = pod.get("status", {})
    phase = {name: status[name] for name in ("phase", "reason") if name in status}
    return {"metadata": metadata, "restartPolicy": policy, "status": phase}


def is_alive(pod: Object) -> bool:
    """Whether a Pod runs or will run (docs/reference/pool-selection.md, "Living Pods").

    ``pod``: a ``cached_part``.
    """
    if "deletionTimestamp" in pod["metadata"]:
        return False
    phase, policy = pod["status"].get("phase", ""), pod["restartPolicy"]
    if phase == "Succeeded":
        return bool(policy == "Always")
    if phase == "Failed":
        return bool(policy != "Never" and pod["status"].get("reason") != "Evicted")
    return True


def controller_of(item: Object) -> Owner | None:
    """The controller of an object. Texts are interned: thousands of Pods share them."""
    metadata = item["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return Owner(
                sys.intern(owner["kind"]),
                sys.intern(owner["name"]),
                sys.intern(metadata.get("namespace", "")),
                sys.intern(owner["apiVersion"]),
                sys.intern(owner["uid"]),
            )
    return None


def pod_state(pod: Object) -> PodState:
    """The fields of a Pod on which reclaim decides."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    phase = status.get("phase", "Pending")
    deletion = metadata.get("deletionTimestamp")
    grace = spec.get("terminationGracePeriodSeconds")
    return PodState(
        sys.intern(metadata["namespace"]),
        metadata["name"],
        metadata["uid"],
        phase=cast("Phase", sys.intern(phase)) if phase in _PHASES else "Unknown",
        node=sys.intern(spec.get("nodeName", "")),
        ips=tuple(addresses_of(status)),
        owner=controller_of(pod),
        deletion_s=unix_s(deletion) if deletion else None,
        deletion_grace_s=float(metadata.get("deletionGracePeriodSeconds") or 0),
        grace_s=GRACE_S if grace is None else float(grace),
        restart_policy=sys.intern(spec.get("restartPolicy", "Always")),
        reason=sys.intern(status.get("reason") or ""),
        finished_s=tuple(_finish_times(status)),
        host_network=bool(spec.get("hostNetwork")),
        claims=tuple(dict.fromkeys(_ipam_claims(metadata).values())),
    )


def _ipam_claims(metadata: Object) -> Mapping[str, str]:
    return ipam_claims_of(metadata.get("annotations") or {}, metadata["namespace"])


def node_state(node: Object) -> NodeState:
    """The state of a Node."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )
    return NodeState(sys.intern(node["metadata"]["name"]), ready)


def unix_s(text: str) -> float:
    """A timestamp of the Kubernetes API in Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def addresses_of(status: dict[str, Any]) -> Iterator[str]:
    """A Pod's addresses as canonical text; skips malformed addresses."""
    texts = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    for text in texts:
        if not text:
            continue
        try:
            yield str(parse_address(text))
        except AddressSyntaxError:
            continue


def _finish_times(status: dict[str, Any]) -> Iterator[float]:
    for kind in _STATUSES:
        for container in status.get(kind) or ():
            ended = (container.get("state") or {}).get("terminated") or {}
            if ended.get("finishedAt"):
                yield unix_s(ended["finishedAt"])
