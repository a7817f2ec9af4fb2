"""Apply the chart's service accounts and permissions, and write kubeconfigs of the accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART_NAMESPACE, Object
from tests.support.kubernetes import APPLY_PATCH, ApiServer

PERMISSION_KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_PLURALS = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}


def apply_permissions(server: ApiServer, rendered: list[Object]) -> None:
    """Apply the service accounts, roles and bindings among the rendered objects."""
    for name in {CHART_NAMESPACE, *(namespace_of(item) for item in rendered)} - {""}:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        server.request("POST", "/api/v1/namespaces", namespace)
    for item in rendered:
        if item["kind"] in PERMISSION_KINDS:
            base, plural = _PLURALS[item["kind"]]
            within = f"/namespaces/{namespace_of(item)}" if namespace_of(item) else ""
            path = f"{base}{within}/{plural}/{item['metadata']['name']}?fieldManager=chart"
            answer = server.request("PATCH", path, item, content=APPLY_PATCH)
            assert answer.status in {200, 201}, answer.message


def kubeconfig_of(
    server: ApiServer, account: str, directory: Path, pod: Object | None = None
) -> Path:
    """Write a kubeconfig with a new token of the account, bound to ``pod`` unless it is None."""
    path = f"/api/v1/namespaces/{CHART_NAMESPACE}/serviceaccounts/{account}/token"
    spec: Object = {"expirationSeconds": 3600}
    if pod is not None:
        name_and_uid = {key: pod["metadata"][key] for key in ("name", "uid")}
        spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1"} | name_and_uid
    answer = server.request("POST", path, {"spec": spec})
    assert answer.status == 201, answer.message
    document = yaml.safe_load(server.kubeconfig.read_text())
    document["users"] = [{"name": "tester", "user": {"token": answer.body["status"]["token"]}}]
    file = directory / f"{account}.kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def is_allowed(server: ApiServer, account: str, **attributes: str) -> bool:
    """Whether the account may send a request.

    ``attributes``: resourceAttributes of a SubjectAccessReview, such as verb and resource.
    """
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{CHART_NAMESPACE}:{account}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer.status == 201, answer.message
    return bool(answer.body["status"]["allowed"])


def namespace_of(item: dict[str, Any]) -> str:
    """The namespace of an object; "" for a cluster-scoped object."""
    return str(item["metadata"].get("namespace", ""))
