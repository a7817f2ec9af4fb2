"""The chart's roles of agent and controller, bound to users.

In tests/nodes, agents and controller run outside Pods, so they have no service accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.yaml_reader import read_all_yaml

AGENT_ACCOUNT: Final = "orbweaver-agent"
CONTROLLER_ACCOUNT: Final = "orbweaver-controller"
CIDR_READER: Final = f"{CONTROLLER_ACCOUNT}-cidrs"
"""The Role in ``kube-system`` by which the controller reads the cluster's CIDRs."""

RBAC_GROUP: Final = "rbac.authorization.k8s.io"
GOLDEN_FILES: Final = Path(__file__).parents[1] / "chart/golden"
DEFAULT_CHART: Final = GOLDEN_FILES / "default.yaml"

CLOUD_CHART: Final = GOLDEN_FILES / "cloud.yaml"
"""The chart, rendered with a network provider."""

PRODUCTION_CHART: Final = GOLDEN_FILES / "production.yaml"
"""The chart, rendered with ClusterIP support (``orbweaver.clusterIP``)."""

DEVICES_CHART: Final = GOLDEN_FILES / "devices.yaml"
"""The chart, rendered with virtual functions and shared RDMA devices."""

AGENT_NAMESPACE: Final = "orbweaver"


def role_manifests() -> Iterator[dict[str, Any]]:
    """Two ClusterRoles, the controller's Role in ``kube-system``, and a binding of each role."""
    for document in read_all_yaml(DEFAULT_CHART.read_text("utf-8")):
        name = document["metadata"]["name"]
        if document["kind"] == "ClusterRole" and name in {AGENT_ACCOUNT, CONTROLLER_ACCOUNT}:
            yield document
            yield _binding("ClusterRole", name, name, {})
        if document["kind"] == "Role" and name == CIDR_READER:
            yield document
            metadata = {"namespace": document["metadata"]["namespace"]}
            yield _binding("Role", name, CONTROLLER_ACCOUNT, metadata)


def _binding(
    kind: str, name: str, user: str, metadata: dict[str, str], binding: str = ""
) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": binding or name, **metadata},
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": name},
        "subjects": [{"apiGroup": RBAC_GROUP, "kind": "User", "name": user}],
    }


def agent_role(golden_file: Path) -> dict[str, Any]:
    return _cluster_role(golden_file, AGENT_ACCOUNT)


def _cluster_role(golden_file: Path, process: str) -> dict[str, Any]:
    (role,) = (
        document
        for document in read_all_yaml(golden_file.read_text("utf-8"))
        if (document["kind"], document["metadata"]["name"]) == ("ClusterRole", process)
    )
    return dict(role)


def sriov_manifests() -> Iterator[dict[str, Any]]:
    """The namespace, CRDs, roles and bindings that virtual functions require."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AGENT_NAMESPACE}}
    yield agent_role(DEVICES_CHART)
    yield _cluster_role(DEVICES_CHART, CONTROLLER_ACCOUNT)
    for document in read_all_yaml(DEVICES_CHART.read_text("utf-8")):
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "CustomResourceDefinition":
            yield document
        if (kind, name) == ("Role", CONTROLLER_ACCOUNT):
            yield document
            yield _binding(kind, name, CONTROLLER_ACCOUNT, {"namespace": AGENT_NAMESPACE})
        if (kind, name) == ("Role", f"{AGENT_ACCOUNT}-sriov"):
            yield document
            for user in (AGENT_ACCOUNT, CONTROLLER_ACCOUNT):
                metadata = {"namespace": AGENT_NAMESPACE}
                yield _binding(kind, name, user, metadata, binding=f"{name}-{user}")
