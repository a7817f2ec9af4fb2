"""Functions that build custom resources as users of Spiderpool do, and create or replace them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS
from core.manifests.kinds.fields import API_VERSION
from tests.fixtures.kubernetes import GROUP_PATH
from tests.support.kubernetes import Answer, ApiServer

Object = dict[str, Any]

REPLACE_RETRIES_MAX: Final = 20
"""Maximum retries of a replacement after a conflict."""


def pool(name: str = "blue", **spec: object) -> Object:
    """A SpiderIPPool of 10.6.0.0/16, by default with one address."""
    return custom_resource(
        "SpiderIPPool", name, {"subnet": "10.6.0.0/16", "ips": ["10.6.0.10"]} | spec
    )


def subnet(name: str = "wide", **spec: object) -> Object:
    """A SpiderSubnet of 10.6.0.0/16, by default with one address."""
    return custom_resource(
        "SpiderSubnet", name, {"subnet": "10.6.0.0/16", "ips": ["10.6.0.10"]} | spec
    )


def reservation(name: str = "kept", **spec: object) -> Object:
    return custom_resource("SpiderReservedIP", name, spec)


def coordinator(name: str = "default", **spec: object) -> Object:
    return custom_resource("SpiderCoordinator", name, {"podCIDRType": "auto"} | spec)


def network(cni_type: str, name: str = "net", **spec: object) -> Object:
    return custom_resource("SpiderMultusConfig", name, {"cniType": cni_type} | spec)


def custom_resource(kind: str, name: str, spec: object) -> Object:
    """An object of one of our kinds; a namespaced object goes into ``default``."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def path_of(kind: str, name: str = "", namespace: str = "default") -> str:
    """The path of an object, or of the collection if ``name`` is ""."""
    definition = next(definition for definition in CUSTOM_RESOURCE_KINDS if definition.name == kind)
    within = f"/namespaces/{namespace}" if definition.namespaced else ""
    return f"{GROUP_PATH}{within}/{definition.plural}" + (f"/{name}" if name else "")


def create(server: ApiServer, body: Object) -> Answer:
    return server.request("POST", path_of(body["kind"]), body)


def replace(server: ApiServer, body: Object) -> Answer:
    path = path_of(body["kind"], body["metadata"]["name"])
    answer = _replace_once(server, path, body)
    for _ in range(REPLACE_RETRIES_MAX):
        if answer.status != HTTPStatus.CONFLICT:
            break
        # A controller has changed the object between the GET and the PUT.
        answer = _replace_once(server, path, body)
    return answer


def _replace_once(server: ApiServer, path: str, body: Object) -> Answer:
    stored = server.request("GET", path).body["metadata"]
    version = {"resourceVersion": stored["resourceVersion"]}
    return server.request("PUT", path, body | {"metadata": stored | body["metadata"] | version})


def get(server: ApiServer, kind: str, name: str, namespace: str = "default") -> Object:
    """The stored object; a ``Status`` with code 404 if there is none."""
    return server.request("GET", path_of(kind, name, namespace)).body
