"""Pods and their owners as an API server has them when kubelet and controllers did their part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.objects import Object
from tests.support.kubernetes import MERGE, ApiServer

PODS = "/api/v1/namespaces/shop/pods"
PARTS = {
    "Pod": PODS,
    "ReplicaSet": "/apis/apps/v1/namespaces/shop/replicasets",
    "Deployment": "/apis/apps/v1/namespaces/shop/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/shop/statefulsets",
}
CONTAINERS = {"containers": [{"name": "main", "image": "none"}]}


def owned_by(owner: Object) -> dict[str, Any]:
    """The controller reference to an object."""
    names = {"kind": owner["kind"], "apiVersion": owner["apiVersion"]}
    metadata = {name: owner["metadata"][name] for name in ("name", "uid")}
    return {"ownerReferences": [names | metadata | {"controller": True}]}


def create_pod(
    server: ApiServer,
    name: str,
    node: str,
    owner: Object | None = None,
    *,
    spec: Object | None = None,
    **metadata: Any,
) -> Object:
    """A Pod that was scheduled."""
    metadata |= {"name": name} | (owned_by(owner) if owner else {})
    body = {"metadata": metadata, "spec": CONTAINERS | {"nodeName": node} | (spec or {})}
    answer = server.request("POST", PODS.replace("shop", metadata.get("namespace", "shop")), body)
    assert answer.status == 201, answer.message
    return answer.body


def create_set(
    server: ApiServer, kind: str, name: str, owner: Object | None = None, **spec: Any
) -> Object:
    """A Deployment, ReplicaSet or StatefulSet."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": CONTAINERS}
    spec |= {"selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name} | (owned_by(owner) if owner else {})
    answer = server.request("POST", PARTS[kind], {"metadata": metadata, "spec": spec})
    assert answer.status == 201, answer.message
    return {"kind": kind, "apiVersion": "apps/v1"} | answer.body


def delete_pod(server: ApiServer, name: str) -> None:
    """At once, as kubelet does in the end."""
    server.request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")


def set_status(server: ApiServer, name: str, **status: Any) -> None:
    """As kubelet reports it."""
    answer = server.request("PATCH", f"{PODS}/{name}/status", {"status": status}, content=MERGE)
    assert answer.status == 200, answer.message


def ended_container() -> Object:
    """The status of a container that has just ended."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"terminated": {"exitCode": 0, "finishedAt": now}}
    main = {"name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    return main | {"state": ended}


def sweep(server: ApiServer) -> None:
    """Away with everything."""
    for path in PARTS.values():
        server.request("DELETE", f"{path}?gracePeriodSeconds=0&propagationPolicy=Background")
