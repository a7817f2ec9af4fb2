"""Objects of a Spiderpool cluster in the format of ``kubectl get``."""

from __future__ import annotations

import json
from typing import Any

from core.domain.claims.takeover import ForeignCluster
from core.manifests.spiderpool import read_spiderpool, values_in

API = "spiderpool.spidernet.io/v2beta1"
RawObject = dict[str, Any]


def spider_ip_pool(
    name: str, subnet: str, *ips: str, allocations: dict[str, str] | None = None, **spec: Any
) -> RawObject:
    """A SpiderIPPool. ``allocations``: address -> "namespace/name UID"."""
    values = {
        address: dict(zip(("pod", "podUid"), text.split(), strict=True))
        for address, text in (allocations or {}).items()
    }
    status = {"allocatedIPs": json.dumps(values)} if values else {}
    return {
        "apiVersion": API,
        "kind": "SpiderIPPool",
        "metadata": {"name": name, "finalizers": ["spiderpool.spidernet.io"]},
        "spec": {"subnet": subnet, "ips": list(ips), **spec},
        "status": {**status, "totalIPCount": 9},
    }


def spider_endpoint(
    name: str, uid: str, *nics: RawObject, owner: str = "Deployment", outlives_pod: bool = False
) -> RawObject:
    """A SpiderEndpoint of the namespace shop. With ``outlives_pod``, no Pod owns it."""
    references = (
        [] if outlives_pod else [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]
    )
    return {
        "apiVersion": API,
        "kind": "SpiderEndpoint",
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": references},
        "status": {
            "current": {"uid": uid, "node": "node-a", "ips": list(nics)},
            "ownerControllerType": owner,
            "ownerControllerName": name.rpartition("-")[0],
        },
    }


def spider_nic(ipv4: str, pool: str, interface: str = "eth0", **fields: Any) -> RawObject:
    """An entry of ``status.current.ips``."""
    return {"interface": interface, "ipv4": ipv4, "ipv4Pool": pool, "vlan": 0, **fields}


def spider_reserved_ip(name: str, *ips: str) -> RawObject:
    return {
        "apiVersion": API,
        "kind": "SpiderReservedIP",
        "metadata": {"name": name},
        "spec": {"ipVersion": 4, "ips": list(ips)},
    }


def listing(*objects: RawObject) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def spiderpool_cluster(*objects: RawObject) -> ForeignCluster:
    return read_spiderpool(values_in([listing(*objects)])).cluster
