"""What our processes may do: as docs/kubernetes.md says it, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

AGENT: Final = "orbweaver-agent"
CONTROLLER: Final = "orbweaver-controller"

OURS: Final = "spiderpool.spidernet.io"
READ: Final = "get list watch"
WRITE: Final = "get list watch create patch delete"


class Right(NamedTuple):
    """``resources`` and ``verbs`` are lists with blanks between."""

    group: str
    resources: str
    verbs: str


RIGHTS: Final = {
    AGENT: (
        Right("", "pods nodes namespaces", READ),
        Right("apps", "statefulsets", READ),
        Right("apps", "replicasets", "get"),
        Right("batch", "jobs", "get"),
    ),
    CONTROLLER: (
        Right(OURS, "spiderippools spidersubnets spiderreservedips", WRITE),
        Right(OURS, "spiderippools/status spidersubnets/status spiderreservedips/status", "patch"),
        Right(OURS, "spiderendpoints", WRITE),
        Right("events.k8s.io", "events", "create"),
        Right("", "pods nodes", READ),
        Right("apps", "statefulsets", READ),
        Right("apps", "deployments replicasets daemonsets", READ),
        Right("batch", "jobs cronjobs", READ),
    ),
}


def rights() -> Iterator[dict[str, Any]]:
    """Roles and their bindings."""
    version = "rbac.authorization.k8s.io/v1"
    for user, allowed in RIGHTS.items():
        metadata = {"name": user}
        rules = [
            {
                "apiGroups": [one.group],
                "resources": one.resources.split(),
                "verbs": one.verbs.split(),
            }
            for one in allowed
        ]
        yield {
            "apiVersion": version,
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": rules,
        }
        group = "rbac.authorization.k8s.io"
        yield {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
