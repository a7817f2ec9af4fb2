"""Manifests of pools, subnets and workloads; all workloads are in the namespace ``shop``."""

from __future__ import annotations

import json
from typing import Any, Final

from core.manifests.kinds.fields import API_VERSION
from tests.runtime.pause_image import IMAGE_NAME

Object = dict[str, Any]

SHOP_NAMESPACE: Final = "shop"
POOL_ANNOTATION: Final = "ipam.spidernet.io/ippool"


def pool(name: str, *ips: str, **spec: Any) -> Object:
    """A SpiderIPPool, by default on the laboratory's IPv4 network."""
    network = {} if "subnet" in spec else {"subnet": "10.6.0.0/24", "gateway": "10.6.0.1"}
    return manifest(API_VERSION, "SpiderIPPool", name, spec={"ips": list(ips)} | network | spec)


IPV6_NETWORK: Final = {"subnet": "fd00:6::/64", "gateway": "fd00:6::1"}
"""The fields of a pool on the laboratory's IPv6 network."""


def subnet(name: str, *ips: str) -> Object:
    spec = {"subnet": "10.6.0.0/24", "gateway": "10.6.0.1", "ips": list(ips)}
    return manifest(API_VERSION, "SpiderSubnet", name, spec=spec)


def annotated_with_pool(ipv4: str, ipv6: str = "") -> dict[str, str]:
    pools = {"ipv4": [ipv4]} | ({"ipv6": [ipv6]} if ipv6 else {})
    return {POOL_ANNOTATION: json.dumps(pools)}


def pod_spec(node: str = "", program: str = "/pause", scratch_mb: int = 0, **spec: Any) -> Object:
    """The spec of a Pod with one container, by default on any node.

    ``scratch_mb``: the size limit in MiB of an emptyDir ``scratch``; 0 for no emptyDir.
    """
    container: Object = {"name": "main", "image": IMAGE_NAME, "imagePullPolicy": "Never"}
    container["command"] = [program]
    if scratch_mb:
        container["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
        volume = {"name": "scratch", "emptyDir": {"sizeLimit": f"{scratch_mb}Mi"}}
        spec["volumes"] = [volume]
    selector = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        # An address without a CNI DEL is reclaimed only after this period.
        "terminationGracePeriodSeconds": 1,
        "enableServiceLinks": False,
        "containers": [container],
        **selector,
        **spec,
    }


def with_slots(workload: Object, resource: str, count: int = 1) -> Object:
    """Add a request for ``spidernet.io`` slots to a workload's Pods; return the workload."""
    spec = workload["spec"]
    container = spec.get("template", {"spec": spec})["spec"]["containers"][0]
    container["resources"] = {"limits": {f"spidernet.io/{resource}": str(count)}}
    return workload


def pod(name: str, annotations: dict[str, str], **spec: Any) -> Object:
    """A Pod in ``shop``; ``spec`` has arguments for ``pod_spec``."""
    return manifest("v1", "Pod", name, SHOP_NAMESPACE, annotations, spec=pod_spec(**spec))


def deployment(name: str, replicas: int, annotations: dict[str, str], **spec: Any) -> Object:
    """A Deployment whose Pods have the label ``app`` with the value ``name``."""
    workload = _workload("Deployment", name, annotations, spec)
    workload["spec"]["replicas"] = replicas
    return workload


def stateful_set(name: str, replicas: int, annotations: dict[str, str], **spec: Any) -> Object:
    workload = _workload("StatefulSet", name, annotations, spec)
    workload["spec"] |= {"replicas": replicas, "serviceName": name}
    workload["spec"]["podManagementPolicy"] = "Parallel"
    return workload


def job(name: str, annotations: dict[str, str]) -> Object:
    """A Job with one Pod, which succeeds immediately."""
    spec = pod_spec(program="/done", restartPolicy="Never")
    template = {"metadata": {"annotations": annotations, "labels": {"app": name}}, "spec": spec}
    return manifest("batch/v1", "Job", name, SHOP_NAMESPACE, spec={"template": template})


def _workload(kind: str, name: str, annotations: dict[str, str], spec: dict[str, Any]) -> Object:
    labels = {"app": name}
    template = {
        "metadata": {"annotations": annotations, "labels": labels},
        "spec": pod_spec(**spec),
    }
    body = {"selector": {"matchLabels": labels}, "template": template}
    return manifest("apps/v1", kind, name, SHOP_NAMESPACE, spec=body)


def manifest(
    version: str,
    kind: str,
    name: str,
    namespace: str = "",
    annotations: dict[str, str] | None = None,
    **body: Any,
) -> Object:
    metadata: Object = {"name": name, "annotations": annotations or {}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}
