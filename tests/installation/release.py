"""Starts Pods in a cluster with Orbweaver, and reads Orbweaver's objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from tests.installation.bare_cluster import BareCluster
from tests.runtime.pause_image import IMAGE_NAME

RELEASE_NAMESPACE: Final = "orbweaver"
CRDS_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PODS_PATH: Final = "/api/v1/namespaces/default/pods"
ENDPOINTS_PATH: Final = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/default/spiderendpoints"
POOL_ADDRESSES: Final = frozenset(f"10.6.0.{host}" for host in range(200, 250))
"""The addresses of the pool in docs/how-to/install.md."""

COLLECTIONS: Final = (
    "/api/v1/pods",
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/api/v1/namespaces",
    "/api/v1/persistentvolumeclaims",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/coordination.k8s.io/v1/leases",
    "/apis/policy/v1/poddisruptionbudgets",
    *(f"/apis/rbac.authorization.k8s.io/v1/{kind}" for kind in ("clusterroles", "roles")),
    *(f"/apis/rbac.authorization.k8s.io/v1/{kind}bindings" for kind in ("clusterrole", "role")),
    *(
        f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        for kind in ("mutating", "validating")
    ),
    CRDS_PATH,
)
"""The collections in which an installation may leave objects."""

WAIT_FOR_ROLLOUT: Final = """
kubectl -n orbweaver rollout status daemonset/orbweaver-agent
kubectl -n orbweaver rollout status deployment/orbweaver-controller
"""


def start_pod(cluster: BareCluster, name: str) -> str:
    """Create a Pod that answers a ping; return its address."""
    cluster.shell(
        f"""
kubectl apply -f - <<END
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: "{IMAGE_NAME}"}}]
END
kubectl wait --for=condition=Ready pod/{name} --timeout=120s
"""
    )
    address = str(pod(cluster, name)["status"]["podIP"])
    assert address in POOL_ADDRESSES
    assert cluster.laboratory.fabric.namespace.ping(address) is not None
    return address


def pod(cluster: BareCluster, name: str) -> dict[str, Any]:
    return dict(cluster.server.request("GET", f"{PODS_PATH}/{name}").body)


def pod_by_address_in_endpoints(cluster: BareCluster) -> dict[str, str]:
    return {
        nic["ipv4"].partition("/")[0]: endpoint["metadata"]["name"]
        for endpoint in cluster.objects(ENDPOINTS_PATH)
        for nic in endpoint["status"]["current"]["ips"]
    }


def pod_by_address_in_pool(cluster: BareCluster) -> dict[str, str]:
    """Address -> Pod, from the status of the pool ``first``."""
    path = "/apis/spiderpool.spidernet.io/v2beta1/spiderippools/first"
    text = cluster.server.request("GET", path).body["status"].get("allocatedIPs") or "{}"
    return {
        address: allocation["pod"].partition("/")[2]
        for address, allocation in json.loads(text).items()
    }


def orbweaver_objects(cluster: BareCluster) -> list[dict[str, Any]]:
    return list(_orbweaver_objects(cluster))


def _orbweaver_objects(cluster: BareCluster) -> Iterator[dict[str, Any]]:
    for path in COLLECTIONS:
        listed = cluster.server.request("GET", path).body
        for item in listed.get("items", ()):
            if any(name in item["metadata"]["name"] for name in ("orbweaver", "spider")):
                yield item | {"kind": listed["kind"].removesuffix("List")}


def objects_in_release_namespace(cluster: BareCluster, path: str) -> list[dict[str, Any]]:
    return [
        item for item in cluster.objects(path) if item["metadata"]["namespace"] == RELEASE_NAMESPACE
    ]


def running_images(cluster: BareCluster) -> set[str]:
    """The images of running Pods, without init containers."""
    return {
        container["image"]
        for pod_object in objects_in_release_namespace(cluster, "/api/v1/pods")
        if pod_object["status"]["phase"] == "Running"
        and "deletionTimestamp" not in pod_object["metadata"]
        for container in pod_object["spec"]["containers"]
    }


def crd_versions(cluster: BareCluster) -> dict[str, Any]:
    """Kind -> ``spec.versions`` of our CRDs."""
    return {
        definition["spec"]["names"]["kind"]: definition["spec"]["versions"]
        for definition in cluster.objects(CRDS_PATH)
        if definition["spec"]["group"] == "spiderpool.spidernet.io"
    }
