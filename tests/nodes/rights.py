"""The permissions of our processes: the chart's rules, for users instead of service accounts.

They are read from a golden file, which tests/chart compares with the rendered chart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

AGENT: Final = "orbweaver-agent"
CONTROLLER: Final = "orbweaver-controller"
CIDRS: Final = f"{CONTROLLER}-cidrs"
GROUP: Final = "rbac.authorization.k8s.io"
GOLDEN: Final = Path(__file__).parents[1] / "chart/golden"
RENDERED: Final = GOLDEN / "default.yaml"
CLOUD: Final = GOLDEN / "cloud.yaml"


def rights() -> Iterator[dict[str, Any]]:
    """Roles and their bindings; of those with a namespace, the controller's in ``kube-system``."""
    for one in yaml.safe_load_all(RENDERED.read_text("utf-8")):
        name = one["metadata"]["name"]
        if one["kind"] == "ClusterRole" and name in {AGENT, CONTROLLER}:
            yield one
            yield _binding("ClusterRole", name, name, {})
        if one["kind"] == "Role" and name == CIDRS:
            yield one
            where = {"namespace": one["metadata"]["namespace"]}
            yield _binding("Role", name, CONTROLLER, where)


def _binding(kind: str, name: str, user: str, where: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": name, **where},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    }


def with_a_provider() -> Iterator[dict[str, Any]]:
    """The same of agents whose networks a provider binds."""
    for one in yaml.safe_load_all(CLOUD.read_text("utf-8")):
        if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", AGENT):
            yield one
