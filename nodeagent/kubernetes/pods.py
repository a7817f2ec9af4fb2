"""What of a Pod's object is kept and read. Pure."""

from __future__ import annotations

from typing import Final

from core.domain.model import Owner
from core.kubernetes.api import Object

_METADATA: Final = (
    *("namespace", "name", "uid", "resourceVersion", "deletionTimestamp"),
    *("labels", "annotations", "ownerReferences"),
)


def kept(one: Object) -> Object:
    """Any object without what no rule asks for: of a Pod, its containers and most of its status."""
    metadata = {name: one["metadata"][name] for name in _METADATA if name in one["metadata"]}
    policy = one.get("spec", {}).get("restartPolicy", "Always")
    status = one.get("status", {})
    phase = {name: status[name] for name in ("phase", "reason") if name in status}
    return {"metadata": metadata, "restartPolicy": policy, "status": phase}


def kept_set(one: Object) -> Object:
    """A StatefulSet's range of replicas."""
    spec = one["spec"]
    metadata = {name: one["metadata"][name] for name in ("namespace", "name", "resourceVersion")}
    return {
        "metadata": metadata,
        "replicas": spec.get("replicas", 1),
        "start": spec.get("ordinals", {}).get("start", 0),
    }


def is_alive(pod: Object) -> bool:
    """Whether a Pod that exists still runs or will (spec/ipam.md 0)."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    phase, policy = pod["status"].get("phase", ""), pod["restartPolicy"]
    if phase == "Succeeded":
        return bool(policy == "Always")
    if phase == "Failed":
        return bool(policy != "Never" and pod["status"].get("reason") != "Evicted")
    return True


def controller_of(one: Object) -> Owner | None:
    """Who controls an object directly."""
    metadata = one["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return Owner(
                owner["kind"],
                owner["name"],
                metadata.get("namespace", ""),
                owner["apiVersion"],
                owner["uid"],
            )
    return None
