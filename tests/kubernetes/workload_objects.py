"""Create, change and delete Pods and workloads in the API server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.objects import Object
from tests.support.kubernetes import MERGE_PATCH, ApiServer

PODS_PATH = "/api/v1/namespaces/shop/pods"
COLLECTION_PATHS = {
    "Pod": PODS_PATH,
    "ReplicaSet": "/apis/apps/v1/namespaces/shop/replicasets",
    "Deployment": "/apis/apps/v1/namespaces/shop/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/shop/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/shop/daemonsets",
    "CronJob": "/apis/batch/v1/namespaces/shop/cronjobs",
    "Job": "/apis/batch/v1/namespaces/shop/jobs",
}
DEFINITIONS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ONE_CONTAINER = {"containers": [{"name": "main", "image": "none"}]}


def owned_by(owner: Object) -> dict[str, Any]:
    """Metadata with a controller reference to ``owner``."""
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
    """Create a Pod on ``node``. The default namespace is ``shop``."""
    metadata |= {"name": name} | (owned_by(owner) if owner else {})
    body = {"metadata": metadata, "spec": ONE_CONTAINER | {"nodeName": node} | (spec or {})}
    answer = server.request(
        "POST", PODS_PATH.replace("shop", metadata.get("namespace", "shop")), body
    )
    assert answer.status == 201, answer.message
    return answer.body


def create_workload(
    server: ApiServer,
    kind: str,
    name: str,
    owner: Object | None = None,
    *,
    annotations: Mapping[str, str] = {},
    **spec: Any,
) -> Object:
    """Create a workload whose Pod template has ``annotations``."""
    labels = {"app": name}
    template: Object = {"metadata": {"labels": labels, "annotations": annotations}}
    template["spec"] = ONE_CONTAINER
    if kind in ("Job", "CronJob"):
        template["spec"] = ONE_CONTAINER | {"restartPolicy": "Never"}
        spec |= {"template": template}
    else:
        spec |= {"selector": {"matchLabels": labels}, "template": template}
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    metadata = {"name": name} | (owned_by(owner) if owner else {})
    answer = server.request("POST", COLLECTION_PATHS[kind], {"metadata": metadata, "spec": spec})
    assert answer.status == 201, answer.message
    version = "/".join(COLLECTION_PATHS[kind].split("/")[2:4])
    return {"kind": kind, "apiVersion": version} | answer.body


def cni_args_of(pod: Object) -> str:
    metadata = pod["metadata"]
    texts = {"NAMESPACE": "shop", "NAME": metadata["name"], "UID": metadata["uid"]}
    arguments = ";".join(f"K8S_POD_{key}={text}" for key, text in texts.items())
    return f"IgnoreUnknown=1;{arguments}"


def delete_pod(server: ApiServer, name: str) -> None:
    """Delete a Pod without a grace period."""
    server.request("DELETE", f"{PODS_PATH}/{name}?gracePeriodSeconds=0")


def set_status(server: ApiServer, name: str, **status: Any) -> None:
    """Set fields of a Pod's status."""
    answer = server.request(
        "PATCH", f"{PODS_PATH}/{name}/status", {"status": status}, content=MERGE_PATCH
    )
    assert answer.status == 200, answer.message


def ended_container_status() -> Object:
    """The status of a container that ends now, without an error."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"terminated": {"exitCode": 0, "finishedAt": now}}
    main = {"name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    return main | {"state": ended}


def delete_workloads(server: ApiServer) -> None:
    """Delete all Pods and workloads of the namespace ``shop``."""
    for path in COLLECTION_PATHS.values():
        server.request("DELETE", f"{path}?gracePeriodSeconds=0&propagationPolicy=Background")


def define_kind(
    server: ApiServer,
    group: str,
    version: str,
    kind: str,
    plural: str,
    *,
    scope: str = "Namespaced",
) -> None:
    """Define a kind whose objects may have any fields."""
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": ANYTHING},
    }
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    spec = {"group": group, "scope": scope, "names": names, "versions": [served]}
    body = {"metadata": {"name": f"{plural}.{group}"}, "spec": spec}
    server.request("POST", DEFINITIONS_PATH, body)
    server.wait_served(f"/apis/{group}/{version}/{plural}")


def undefine_kind(server: ApiServer, group: str, version: str, plural: str) -> None:
    server.request("DELETE", f"{DEFINITIONS_PATH}/{plural}.{group}")
    server.wait_unserved(f"/apis/{group}/{version}/{plural}")
