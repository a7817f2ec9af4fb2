"""The commands of docs/how-to/install.md, word for word, on a cluster without Orbweaver.

The images are built here. docs/how-to/upgrade.md follows, and uninstall.md, which removes all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.installation.bare_cluster import BareCluster
from tests.packaging.project import ROOT
from tests.runtime.pause_image import NAME
from tests.support.documents import shell_blocks

INSTALL, UPGRADE, UNINSTALL = (
    ROOT / "docs/how-to" / name for name in ("install.md", "upgrade.md", "uninstall.md")
)
SPACE = "orbweaver"
POD = f"""
kubectl apply -f - <<END
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: web, image: "{NAME}"}}]
END
kubectl wait --for=condition=Ready pod/web --timeout=120s
"""
ROLLED_OUT = """
kubectl -n orbweaver rollout status daemonset/orbweaver-agent
kubectl -n orbweaver rollout status deployment/orbweaver-controller
"""
ADDRESSES = frozenset(f"10.6.0.{host}" for host in range(200, 250))
"""The addresses of the pool on the page."""

COLLECTIONS = (
    "/api/v1/pods",
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/api/v1/namespaces",
    "/api/v1/persistentvolumeclaims",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/coordination.k8s.io/v1/leases",
    "/apis/policy/v1/poddisruptionbudgets",
    *(f"/apis/rbac.authorization.k8s.io/v1/{kind}" for kind in ("clusterroles", "roles")),
    *(f"/apis/rbac.authorization.k8s.io/v1/{kind}bindings" for kind in ("clusterrole", "role")),
    *(
        f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        for kind in ("mutating", "validating")
    ),
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
"""The directories in which an installation may leave files."""

KEPT = frozenset({"Namespace", "Secret", "PersistentVolumeClaim", "CustomResourceDefinition"})
"""Kinds that an uninstallation keeps on purpose: records of addresses, and definitions."""

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


def test_what_the_documents_say_installs_serves_upgrades_and_leaves_nothing(
    cluster: BareCluster,
) -> None:
    _, install, pool = shell_blocks(INSTALL)
    upgrade, roll_back = shell_blocks(UPGRADE)
    remove, remove_all = shell_blocks(UNINSTALL)
    before = {name: cluster.state_of(name) for name in cluster.nodes}

    cluster.shell(install)
    cluster.shell(pool)
    cluster.shell(POD)
    assert_pod_is_on_the_network(cluster)
    assert_nodes_are_checked_without_a_login(cluster)

    cluster.shell(upgrade)
    cluster.shell("kubectl delete pod web")
    cluster.shell(f"{roll_back}{ROLLED_OUT}")
    cluster.shell(POD)
    assert_pod_is_on_the_network(cluster)

    cluster.shell("kubectl delete pod web")
    name = max(before)
    assert_a_node_is_cleaned_without_a_login(cluster, name)
    assert cluster.state_of(name).changes_since(before[name]) == {}
    cluster.shell(remove)
    cluster.until(lambda: not of_namespace(cluster, "/api/v1/pods"), "an end of all Pods")
    assert {one["kind"] for one in ours(cluster)} <= KEPT
    for name, state in before.items():
        assert cluster.state_of(name).changes_since(state) == {}

    cluster.shell(remove_all)
    cluster.until(lambda: not ours(cluster), "an end of everything")


def assert_pod_is_on_the_network(cluster: BareCluster) -> None:
    """Assert that the Pod has an address of the pool and that its gateway answers."""
    pod = cluster.server.request("GET", "/api/v1/namespaces/default/pods/web").body
    address = pod["status"]["podIP"]
    assert address in ADDRESSES
    assert cluster.laboratory.fabric.namespace.ping(address) is not None


def assert_nodes_are_checked_without_a_login(cluster: BareCluster) -> None:
    """Assert that a check of the node in the agent's Pod finds what the node itself supports."""
    for name in cluster.nodes:
        found = json.loads(cluster.shell(f"kubectl orb node doctor {name} -o json"))
        assert found["missingCapabilities"] == []
        assert found["networkManager"] is None
        assert {one["name"] for one in found["interfaces"]} >= {"eth0"}
        verdicts = {one["check"]: one["verdict"] for one in found["diagnoses"]}
        assert verdicts["macvlan links"] == "ok"


def assert_a_node_is_cleaned_without_a_login(cluster: BareCluster, name: str) -> None:
    """Clean a node by the commands of uninstall.md; refused while its agent is running."""
    refusal = cluster.shell(f"! kubectl orb node clean {name} 2>&1")
    assert f"kubectl label node {name} orbweaver.io/agent=disabled" in refusal

    cluster.shell(f"kubectl label node {name} orbweaver.io/agent=disabled")
    selected = f"-l app.kubernetes.io/component=agent --field-selector=spec.nodeName={name}"
    cluster.until(
        lambda: not cluster.shell(f"kubectl -n {SPACE} get pods {selected} -o name"),
        "the end of the node's agent",
    )
    log = cluster.shell(f"kubectl orb node clean {name}")
    assert "/opt/cni/bin/coordinator removed" in log
    cluster.until(
        lambda: (
            not [
                one
                for one in of_namespace(cluster, "/api/v1/pods")
                if one["metadata"]["name"].startswith("orbweaver-node-clean-")
            ]
        ),
        "the end of the Pod that cleans",
    )


def ours(cluster: BareCluster) -> list[dict[str, Any]]:
    """Return the objects of the cluster whose name is ours or Spiderpool's, with their kinds."""
    return list(_ours(cluster, COLLECTIONS))


def _ours(cluster: BareCluster, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        listed = cluster.server.request("GET", path).body
        for one in listed.get("items", ()):
            if any(name in one["metadata"]["name"] for name in ("orbweaver", "spider")):
                yield one | {"kind": listed["kind"].removesuffix("List")}


def of_namespace(cluster: BareCluster, path: str) -> list[dict[str, Any]]:
    """Return the objects of the release's namespace."""
    return [one for one in cluster.objects(path) if one["metadata"]["namespace"] == SPACE]
