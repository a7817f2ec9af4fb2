"""The ``kmock`` package in place of an API server, for machines without kube-apiserver.

kmock has no schemas, webhooks, conflicts, field managers, RBAC or restarts; tests that need these
features are skipped.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import pytest
import yaml
from kmock import KubernetesEmulator, ResourceInfo, Server

from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS
from core.manifests.kinds.fields import API_VERSION
from tests.support.etcd import EtcdCluster
from tests.support.http_client import HttpClient, HttpResponse
from tests.support.kubernetes import (
    APPLY_PATCH,
    CALL_S,
    MERGE_PATCH,
    ApiServer,
    Loopback,
    ServerLocation,
)
from tests.support.parts import API_SERVER, needs

CREATED_AT: Final = "2026-01-01T00:00:00Z"
START_S: Final = 20.0
STOP_S: Final = 20.0
SERVICES: Final = "networking.k8s.io/v1/servicecidrs"
COLLECTIONS: Final = (
    *(f"{API_VERSION}/{kind.plural}" for kind in CUSTOM_RESOURCE_KINDS),
    *("v1/pods", "v1/namespaces", "v1/nodes", "v1/configmaps", "events.k8s.io/v1/events"),
    *("apps/v1/statefulsets", "apps/v1/replicasets", "apps/v1/deployments", "batch/v1/jobs"),
    *(SERVICES, "k8s.cni.cncf.io/v1/network-attachment-definitions"),
)
"""Collections that are served even while they are empty."""

PLURALS: Final = frozenset(collection.rpartition("/")[2] for collection in COLLECTIONS)


class Emulator(KubernetesEmulator):
    """kmock's emulator, which also sets a real server's metadata and creates objects by apply."""

    _versions = itertools.count(1)

    async def _handle(self, request: Any) -> Any:  # private in kmock
        body = request.data
        if request.resource is not None and isinstance(body, dict) and "metadata" in body:
            key = (request.resource, request.namespace, request.name)
            is_applied = request.headers.get("Content-Type") == APPLY_PATCH
            is_new = request.method == "POST" or (is_applied and not self._has(key))
            if is_new:
                _add_identity(body["metadata"], request.namespace)
            elif self._has(key):
                _update(body, self.objects[key].last.raw)
            body["metadata"]["resourceVersion"] = str(next(self._versions))
            if is_applied and is_new:
                self.objects[key] = body
        return await super()._handle(request)

    def _has(self, key: Any) -> bool:  # the type is not public
        return key in self.objects and not self.objects[key].deleted


def _add_identity(metadata: dict[str, Any], namespace: str | None) -> None:
    metadata |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": CREATED_AT}
    metadata |= {"namespace": namespace} if namespace else {}


def _update(body: dict[str, Any], stored: Mapping[str, Any]) -> None:
    """Increment the generation if the spec has changed; merge conditions by type."""
    before = stored.get("spec") or {}
    if any(before.get(key) != value for key, value in (body.get("spec") or {}).items()):
        body["metadata"]["generation"] = stored["metadata"]["generation"] + 1
    conditions = (body.get("status") or {}).get("conditions")
    if conditions:
        types = {condition["type"] for condition in conditions}
        stored_conditions = (stored.get("status") or {}).get("conditions") or []
        body["status"]["conditions"] = [
            *(condition for condition in stored_conditions if condition["type"] not in types),
            *conditions,
        ]


class MockServer(ApiServer):
    """A kmock server. Unsupported methods of ``ApiServer`` skip the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.location: ServerLocation = Loopback(EtcdCluster(directory))
        self._loop = asyncio.new_event_loop()
        # A daemon thread, so that pytest can exit if the server does not stop.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started: Future[str] = Future()
        self._stop_requested = asyncio.Event()
        self._url = ""

    def __enter__(self) -> Self:
        self.location.open()
        self._thread.start()
        try:
            self._url = self._started.result(START_S)
        except Exception as error:
            self._end()
            why = f"not within {START_S:g} s" if isinstance(error, TimeoutError) else repr(error)
            raise AssertionError(f"kmock did not start: {why}") from error
        location = urlsplit(self._url)
        assert location.hostname is not None
        assert location.port is not None
        self._client = HttpClient(location.hostname, location.port, None, CALL_S)
        self.kubeconfig.write_text(yaml.safe_dump(self._kubeconfig_document()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._stop_requested.set)
        self._thread.join(STOP_S)
        self.location.close()
        assert not self._thread.is_alive(), f"kmock did not stop within {STOP_S:g} s"
        self._loop.close()

    @property
    def url(self) -> str:
        return self._url

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Ignore ``apply``, because kmock needs no CRDs; otherwise skip the test."""
        if arguments[0] != "apply":
            skip_unsupported("kubectl")
        return ""

    def start(self) -> None:
        skip_unsupported("a restart")

    def kill(self) -> None:
        skip_unsupported("a crash")

    def _send(
        self, method: str, path: str, body: object = None, content: str = "application/json"
    ) -> HttpResponse:
        target = path.partition("?")[0]
        # kmock cannot delete a collection, handles PUT as a merge, and answers POST with 200.
        if method == "DELETE" and target.rpartition("/")[2] in PLURALS:
            for item in self.request("GET", target).body["items"]:
                super()._send("DELETE", f"{target}/{item['metadata']['name']}")
            return HttpResponse(HTTPStatus.OK, b"{}", ())
        if method == "PUT" and isinstance(body, dict):
            removed_fields = dict.fromkeys(self.request("GET", target).body["spec"])
            return super()._send(
                "PATCH", path, body | {"spec": removed_fields | body["spec"]}, MERGE_PATCH
            )
        response = super()._send(method, path, body, content)
        is_created = method == "POST" and response.status == HTTPStatus.OK
        return response._replace(status=HTTPStatus.CREATED) if is_created else response

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            if self._started.done():
                raise  # pytest fails a test whose thread raises
            self._started.set_exception(error)

    async def _serve(self) -> None:
        async with Emulator() as handler, Server(handler) as server:
            for collection in COLLECTIONS:
                handler.resources[collection] = ResourceInfo()
            handler.objects[SERVICES, None, "kubernetes"] = {
                "metadata": {"name": "kubernetes"},
                "spec": {"cidrs": ["10.96.0.0/16"]},
            }
            self._started.set_result(str(server.url).rstrip("/"))
            await self._stop_requested.wait()

    def _kubeconfig_document(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self._url}}],
            "users": [{"name": "tester", "user": {"token": "none"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "tester"}}],
            "current-context": "here",
        }


def skip_unsupported(feature: str) -> NoReturn:
    pytest.skip(needs(API_SERVER, f"kmock does not simulate {feature}"))
