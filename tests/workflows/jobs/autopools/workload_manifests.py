"""Makes manifests for ``orbctl apply -f -``: a subnet, a Deployment, its Pods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.manifests.manifest_writer import dump_yaml

API_VERSION = "spiderpool.spidernet.io/v2beta1"
PREFIX = "ipam.spidernet.io/"
Plain = dict[str, object]
"""A Kubernetes object as plain values."""


def subnet(name: str, cidr: str, ips: Sequence[str], gateway: str = "") -> Plain:
    spec: Plain = {"subnet": cidr, "ips": list(ips)}
    if gateway:
        spec["gateway"] = gateway
    return {"apiVersion": API_VERSION, "kind": "SpiderSubnet", **_named(name), "spec": spec}


def subnet_annotations(*, ipv4: str = "", ipv6: str = "", number: str = "") -> dict[str, str]:
    """Annotations that request automatic pools of these subnets.

    ``number``: the number of addresses; "+1" means one more than there are replicas.
    """
    lists = {"ipv4": [ipv4] if ipv4 else [], "ipv6": [ipv6] if ipv6 else []}
    annotations = {f"{PREFIX}subnet": _json(lists)}
    return annotations | ({f"{PREFIX}ippool-ip-number": number} if number else {})


def deployment(name: str, namespace: str, replicas: int, annotations: dict[str, str]) -> Plain:
    template = {"metadata": {"annotations": annotations}}
    spec = {"replicas": replicas, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", **_named(name, namespace), "spec": spec}


def pod(name: str, owner: str, namespace: str, annotations: dict[str, str]) -> Plain:
    controller = {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "controller": True}
    named = _named(name, namespace)
    named["metadata"] |= {"annotations": annotations, "ownerReferences": [controller]}
    return {"apiVersion": "v1", "kind": "Pod", **named}


def as_yaml(objects: Iterable[Plain]) -> str:
    return dump_yaml(objects)


def _named(name: str, namespace: str = "") -> dict[str, dict[str, object]]:
    metadata: dict[str, object] = {"name": name}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {})}


def _json(lists: dict[str, list[str]]) -> str:
    parts = [f'"{family}": ["{names[0]}"]' for family, names in lists.items() if names]
    return "{" + ", ".join(parts) + "}"
