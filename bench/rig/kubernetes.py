"""Starts a real API server, and writes clusters of many Pods directly into its etcd.

The API server can read JSON from etcd. Writing ten thousand Pods into etcd takes a second; creating
them through the API server takes a minute.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.figures import NotTaken
from bench.rig.frames import NAMESPACE, identity
from core.domain.configuration.commands import ApplyPool
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put
from core.eventstore.state_reader import read_ledger
from core.kubernetes.api_client import Object
from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS, definition_of
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_writer import dump_yaml, to_manifest
from ops.kubernetes.pool_status_writer import STATUS_MANAGER
from ops.kubernetes.status_reports import endpoint_report
from ops.kubernetes.translated_kinds import FINALIZER, command_of
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import KUBERNETES_PROGRAMS, ApiServer, Loopback, missing_programs

NODE: Final = "node-0"
CREATED: Final = "2026-01-01T00:00:00Z"
PUTS_PER_COMMIT: Final = 100
"""Objects per transaction; etcd accepts 128 operations."""

CONCURRENT_COMMITS: Final = 32

DELETED_AT: Final = "2099-01-01T00:00:00Z"
"""A deletion timestamp so late that no controller reclaims addresses before the DEL."""

OWNER_UID: Final = "0a1b2c3d-0000-4000-9000-000000000001"
_REGISTRY: Final = "/registry"
_REQUESTS: Final = "apiserver_request_total"
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_GROUP: Final = API_VERSION.partition("/")[0]


def require_programs() -> None:
    """Raise NotTaken if a program is missing."""
    if missing := missing_programs():
        raise NotTaken(
            f"no {' and no '.join(missing)} in {KUBERNETES_PROGRAMS}: "
            "see docs/contributing/testing.md"
        )


@contextmanager
def api_server(directory: Path, etcd: EtcdCluster) -> Iterator[ApiServer]:
    """Start an API server and its etcd. Every client is an administrator."""
    flags = {"authorization-mode": "AlwaysAllow"}
    with ApiServer(directory, Loopback(etcd), flags=flags) as server:
        yield server


def define_kinds(server: ApiServer) -> None:
    """Create Orbweaver's custom resource definitions."""
    text = dump_yaml(map(definition_of, CUSTOM_RESOURCE_KINDS))
    server.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    for kind in CUSTOM_RESOURCE_KINDS:
        server.wait_served(f"/apis/{API_VERSION}/{kind.plural}")


def request_counts(server: ApiServer) -> Counter[str]:
    """Completed requests for each "VERB resource/subresource", without watches."""
    counts: Counter[str] = Counter()
    for line in server.text("/metrics").splitlines():
        if line.startswith(f"{_REQUESTS}{{"):
            labels = dict(_LABEL.findall(line))
            if labels["verb"] != "WATCH" and labels["resource"]:
                parts = filter(None, (labels["resource"], labels["subresource"]))
                counts[f"{labels['verb']} {'/'.join(parts)}"] += int(float(line.split()[-1]))
    return counts


async def write_cluster(store: KeyValueStore, serials: Sequence[int]) -> None:
    """Write a namespace, a node, a Deployment, its ReplicaSet and its Pods."""
    metadata = _metadata(NAMESPACE)
    active = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    await _write(
        store,
        [
            (f"namespaces/{NAMESPACE}", _object("v1", "Namespace", metadata) | active),
            # The API server stores nodes as "minions".
            (f"minions/{NODE}", _object("v1", "Node", _metadata(NODE)) | _ready_node()),
            (f"deployments/{NAMESPACE}/web", _workload("Deployment", len(serials))),
            (f"replicasets/{NAMESPACE}/web-1", _workload("ReplicaSet", len(serials))),
        ],
    )
    await _write(store, [_key_and_pod(serial) for serial in serials])


async def write_pods(store: KeyValueStore, serials: Iterable[int]) -> None:
    """Write Pods into an existing cluster."""
    await _write_singly(store, [_key_and_pod(serial) for serial in serials])


async def terminate_pods(store: KeyValueStore, serials: Iterable[int]) -> None:
    """Set the deletion timestamp of Pods."""
    pods = [_key_and_pod(serial) for serial in serials]
    for _, pod in pods:
        pod["metadata"] |= {"deletionTimestamp": DELETED_AT, "deletionGracePeriodSeconds": 30}
    await _write_singly(store, pods)


async def write_pools(store: KeyValueStore, pools: Iterable[Pool]) -> list[Pool]:
    """Write the pools' custom resources; return the pools that a controller reads from them."""
    resources = [_resource(pool) for pool in pools]
    await _write(
        store,
        [
            (f"{_GROUP}/spiderippools/{resource['metadata']['name']}", resource)
            for resource in resources
        ],
    )
    return [
        command.pool for command in map(command_of, resources) if isinstance(command, ApplyPool)
    ]


async def write_endpoints(store: KeyValueStore, keys: Keys) -> None:
    """Write the SpiderEndpoints of all claims."""
    ledger = await read_ledger(store, keys)
    objects = []
    for namespace, name in ledger.endpoints:
        report = endpoint_report(ledger, (namespace, name))
        assert report is not None, "an endpoint of the ledger has no report"
        report["metadata"] |= _metadata(name, namespace) | {
            "managedFields": [{"manager": STATUS_MANAGER}]
        }
        objects.append((f"{_GROUP}/spiderendpoints/{namespace}/{name}", report))
    await _write(store, objects)


async def _write(store: KeyValueStore, objects: Sequence[tuple[str, Object]]) -> None:
    for first in range(0, len(objects), PUTS_PER_COMMIT):
        batch = objects[first : first + PUTS_PER_COMMIT]
        await store.commit(
            [],
            [
                Put(f"{_REGISTRY}/{path}".encode(), json.dumps(body).encode())
                for path, body in batch
            ],
        )


async def _write_singly(store: KeyValueStore, objects: Sequence[tuple[str, Object]]) -> None:
    """Write each object in its own transaction, as an API server does.

    If several objects shared a resource version, a watch from this version could miss some of them.
    """
    for first in range(0, len(objects), CONCURRENT_COMMITS):
        batch = objects[first : first + CONCURRENT_COMMITS]
        await asyncio.gather(*(_write(store, [item]) for item in batch))


def _key_and_pod(serial: int) -> tuple[str, Object]:
    return f"pods/{NAMESPACE}/{identity(serial).name}", _pod(serial)


def _object(version: str, kind: str, metadata: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _metadata(name: str, namespace: str = "", uid: str = "") -> Object:
    uid = uid or f"0a1b2c3d-0000-4000-a000-{hash(name) & 0xFFFFFFFFFFFF:012x}"
    metadata = {"name": name, "uid": uid, "creationTimestamp": CREATED, "generation": 1}
    return metadata | ({"namespace": namespace} if namespace else {})


def _ready_node() -> Object:
    times = {"lastHeartbeatTime": CREATED, "lastTransitionTime": CREATED}
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", **times}
    return {"spec": {}, "status": {"conditions": [condition]}}


def _resource(pool: Pool) -> Object:
    body: Object = to_manifest(pool)
    body["metadata"] |= _metadata(pool.name) | {"finalizers": [FINALIZER]}
    return body


def _workload(kind: str, replicas: int) -> Object:
    name, uid = ("web", "") if kind == "Deployment" else ("web-1", OWNER_UID)
    body = _object("apps/v1", kind, _metadata(name, NAMESPACE, uid))
    if kind == "ReplicaSet":
        owner = _metadata("web")["uid"]
        body["metadata"]["ownerReferences"] = [_owner("Deployment", "web", owner)]
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": _containers()}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return body | {"spec": spec}


def _owner(kind: str, name: str, uid: str) -> Mapping[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def _containers() -> Object:
    container = {
        "name": "main",
        "image": "registry.example/shop/web:1.2.3",
        "env": [{"name": f"SETTING_{number}", "value": "x" * 20} for number in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    return {"containers": [container], "restartPolicy": "Always"}


def _pod(serial: int) -> Object:
    """A Pod of usual size, ``managedFields`` included."""
    pod = identity(serial)
    body = _object("v1", "Pod", _metadata(pod.name, NAMESPACE, pod.uid))
    fields: Object = {"f:spec": {f"f:field-{number}": {} for number in range(60)}}
    body["metadata"] |= {
        "labels": {"app": "web", "pod-template-hash": "1"},
        "ownerReferences": [_owner("ReplicaSet", "web-1", OWNER_UID)],
        "managedFields": [
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "apiVersion": "v1",
                "time": CREATED,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        ],
    }
    status = {"phase": "Running", "hostIP": "192.0.2.11", "startTime": CREATED}
    return body | {"spec": _containers() | {"nodeName": NODE}, "status": status}
