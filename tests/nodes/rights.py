"""The permissions of our processes: the chart's rules, for users instead of service accounts.

They are read from a golden file, which tests/chart compares with the rendered chart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.yaml_reader import read_all_yaml

AGENT: Final = "orbweaver-agent"
CONTROLLER: Final = "orbweaver-controller"
CIDRS: Final = f"{CONTROLLER}-cidrs"
GROUP: Final = "rbac.authorization.k8s.io"
GOLDEN: Final = Path(__file__).parents[1] / "chart/golden"
RENDERED: Final = GOLDEN / "default.yaml"
CLOUD: Final = GOLDEN / "cloud.yaml"
"""The profile with a network provider."""

PRODUCTION: Final = GOLDEN / "production.yaml"
"""The profile with ClusterIPs from sockets."""

SRIOV: Final = GOLDEN / "devices.yaml"
"""The profile with virtual functions and shared RDMA devices."""

AGENT_NAMESPACE: Final = "orbweaver"


def rights() -> Iterator[dict[str, Any]]:
    """Roles and their bindings; of those with a namespace, the controller's in ``kube-system``."""
    for document in read_all_yaml(RENDERED.read_text("utf-8")):
        name = document["metadata"]["name"]
        if document["kind"] == "ClusterRole" and name in {AGENT, CONTROLLER}:
            yield document
            yield _binding("ClusterRole", name, name, {})
        if document["kind"] == "Role" and name == CIDRS:
            yield document
            where = {"namespace": document["metadata"]["namespace"]}
            yield _binding("Role", name, CONTROLLER, where)


def _binding(
    kind: str, name: str, user: str, where: dict[str, str], binding: str = ""
) -> dict[str, Any]:
    """The binding of a role to a user; it has the name of the role, unless ``binding`` is set."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": binding or name, **where},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    }


def agent_role(profile: Path) -> dict[str, Any]:
    """The ClusterRole of agents in another profile of the chart."""
    return _cluster_role(profile, AGENT)


def _cluster_role(profile: Path, process: str) -> dict[str, Any]:
    (role,) = (
        document
        for document in read_all_yaml(profile.read_text("utf-8"))
        if (document["kind"], document["metadata"]["name"]) == ("ClusterRole", process)
    )
    return dict(role)


def with_devices() -> Iterator[dict[str, Any]]:
    """What the chart brings for virtual functions: definitions, and rights of both processes."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AGENT_NAMESPACE}}
    yield agent_role(SRIOV)
    yield _cluster_role(SRIOV, CONTROLLER)
    for document in read_all_yaml(SRIOV.read_text("utf-8")):
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "CustomResourceDefinition":
            yield document
        if (kind, name) == ("Role", CONTROLLER):
            yield document
            yield _binding(kind, name, CONTROLLER, {"namespace": AGENT_NAMESPACE})
        if (kind, name) == ("Role", f"{AGENT}-sriov"):
            yield document
            for user in (AGENT, CONTROLLER):
                where = {"namespace": AGENT_NAMESPACE}
                yield _binding(kind, name, user, where, f"{name}-{user}")
