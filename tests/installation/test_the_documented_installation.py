"""Runs the commands of docs/how-to/install.md and uninstall.md on a cluster without Orbweaver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from nodeagent.settings.sysctls import NODE_SYSCTLS
from ops.demo.datapath import missing_capability
from tests.installation.bare_cluster import BareCluster, NodeState
from tests.installation.images import BUILT_IMAGES, RUN_NAME
from tests.installation.registry import REGISTRY_NAME
from tests.installation.release import (
    RELEASE_NAMESPACE,
    WAIT_FOR_ROLLOUT,
    objects_in_release_namespace,
    orbweaver_objects,
    running_images,
    start_pod,
)
from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import shell_blocks
from tests.support.kubernetes import SERVICE_ADDRESS
from tests.support.parts import CGROUPS, note_substitute

INSTALL, UNINSTALL = (
    PROJECT_ROOT / "docs/how-to" / name for name in ("install.md", "uninstall.md")
)
KEPT_KINDS: Final = frozenset(
    {"Namespace", "Secret", "PersistentVolumeClaim", "CustomResourceDefinition"}
)
"""Kinds of objects that ``helm uninstall`` leaves."""

CHANGED_SYSCTLS: Final = frozenset(sysctl.key.replace("/", ".") for sysctl in NODE_SYSCTLS) | {
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.default.forwarding",
    "net.ipv6.conf.default.forwarding",
}
"""Sysctls that agents set, and sysctls that the kernel changes with ``forwarding``."""

PINNED_PROGRAM: Final = "sys/fs/bpf/orbweaver/links/connect4"
"""A pinned BPF link that exists while an agent serves ClusterIPs."""

ENABLE_CLUSTER_IPS: Final = """
cat >values-of-nodes.yaml <<END
orbweaver: {{clusterIP: {{enabled: true}}}}
spiderpoolAgent:
  extraEnv: [{{name: ORBWEAVER_CLUSTER_IP_CGROUP, value: {group}/\\$(SPIDERPOOL_NODE_NAME)}}]
END
helm upgrade orbweaver {root}/ops/charts/orbweaver -n orbweaver --reuse-values \\
    -f values-of-nodes.yaml
"""
"""See docs/how-to/serve-clusterips.md. Sets the path of the Pods' cgroups too."""

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]


def test_the_documented_commands_install_and_uninstall_orbweaver(
    cluster: BareCluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, push, install, pool = shell_blocks(INSTALL)
    remove, remove_all = shell_blocks(UNINSTALL)
    before = {name: cluster.state_of(name) for name in cluster.nodes}

    cluster.shell(push)
    assert_values_have_the_digests_of_the_registry(cluster)
    cluster.shell(install)
    assert_images_are_named_by_digest(cluster)
    cluster.shell(pool)
    serves_cluster_ips = enable_cluster_ips(cluster, tmp_path, request.node)
    start_pod(cluster, "web")
    assert_nodes_are_checked_without_a_login(cluster)
    other_address = start_pod(cluster, "other")
    assert_paths_are_traced_without_a_login(
        cluster, other_address, serves_cluster_ips=serves_cluster_ips
    )

    cluster.shell("kubectl delete pod web other")
    name = max(before)  # any node
    assert_a_node_is_cleaned_without_a_login(cluster, name)
    assert_nothing_is_left(cluster.state_of(name), before[name])
    cluster.shell(remove)
    cluster.until(
        lambda: not objects_in_release_namespace(cluster, "/api/v1/pods"), "the end of all Pods"
    )
    assert {item["kind"] for item in orbweaver_objects(cluster)} <= KEPT_KINDS
    for name, state in before.items():
        assert_nothing_is_left(cluster.state_of(name), state)

    cluster.shell(f"kubectl label node {name} orbweaver.io/agent-")
    cluster.shell(remove_all)
    cluster.until(lambda: not orbweaver_objects(cluster), "the end of all objects")


def assert_values_have_the_digests_of_the_registry(cluster: BareCluster) -> None:
    values = (PROJECT_ROOT / "build/images/values.yaml").read_text("utf-8")
    for name in BUILT_IMAGES:
        repository, _, tag = name.removeprefix(f"{REGISTRY_NAME}/").partition(":")
        assert f'digest: "{cluster.registry.digest(repository, tag)}"' in values
    assert f'digest: "{cluster.registry.digest(f"{RUN_NAME}/coreos/etcd", "v3.5.26")}"' in values


def assert_images_are_named_by_digest(cluster: BareCluster) -> None:
    images = running_images(cluster)
    assert len(images) == 3  # agent, controller, etcd
    assert all(image.startswith(f"{REGISTRY_NAME}/") and "@sha256:" in image for image in images)


def enable_cluster_ips(cluster: BareCluster, directory: Path, test: pytest.Item) -> bool:
    """Return False, without a change, if this kernel cannot serve ClusterIPs."""
    if reason := missing_capability().no_services:
        note_substitute(test, CGROUPS, f"an installation without ClusterIPs: {reason}")
        return False
    (mount, *_) = cgroup2_mounts()
    group = f"{mount}/{cluster.laboratory.identity.name('pods')}"
    cluster.shell(ENABLE_CLUSTER_IPS.format(group=group, root=PROJECT_ROOT), directory)
    cluster.shell(WAIT_FOR_ROLLOUT)
    for name in cluster.nodes:
        cluster.until(
            lambda name=name: PINNED_PROGRAM in cluster.state_of(name).files,  # type: ignore[misc]
            f"pinned programs on {name}",
        )
    return True


def assert_nothing_is_left(state: NodeState, before: NodeState) -> None:
    """``CHANGED_SYSCTLS`` may stay, see uninstall.md."""
    changes = state.changes_since(before)
    sysctls = {line.lstrip("+-").partition(" ")[0] for line in changes.pop("sysctls", ())}
    assert changes == {}
    assert sysctls <= CHANGED_SYSCTLS


def assert_nodes_are_checked_without_a_login(cluster: BareCluster) -> None:
    for name in cluster.nodes:
        report = json.loads(cluster.shell(f"kubectl orb node doctor {name} -o json"))
        assert report["missingCapabilities"] == []
        assert report["networkManager"] is None
        assert {interface["name"] for interface in report["interfaces"]} >= {"eth0"}
        verdicts = {diagnosis["check"]: diagnosis["verdict"] for diagnosis in report["diagnoses"]}
        assert verdicts["macvlan links"] == "ok"


def assert_paths_are_traced_without_a_login(
    cluster: BareCluster, other_address: str, *, serves_cluster_ips: bool
) -> None:
    trace = json.loads(cluster.shell("kubectl orb trace-path web other -o json"))
    (path,) = trace["paths"]
    assert (trace["pod"], path["destination"]) == ("web", other_address)
    legs = {leg["name"]: leg["stops"] for leg in path["legs"]}
    assert legs.keys() >= {"there", "back"}
    assert any("eth0" in stop["route"] for stop in legs["there"])

    if serves_cluster_ips:
        text = cluster.shell(f"kubectl orb trace-path web {SERVICE_ADDRESS}:443")
        backend = f"{cluster.laboratory.fabric.address}:{cluster.server.port}"
        assert f"ClusterIP port 443/TCP: sockets connect to {backend}" in text


def assert_a_node_is_cleaned_without_a_login(cluster: BareCluster, name: str) -> None:
    """Clean a node by uninstall.md; the command is refused while the node's agent runs."""
    refusal = cluster.shell(f"! kubectl orb node clean {name} 2>&1")
    assert f"kubectl label node {name} orbweaver.io/agent=disabled" in refusal

    cluster.shell(f"kubectl label node {name} orbweaver.io/agent=disabled")
    selected = f"-l app.kubernetes.io/component=agent --field-selector=spec.nodeName={name}"
    cluster.until(
        lambda: not cluster.shell(f"kubectl -n {RELEASE_NAMESPACE} get pods {selected} -o name"),
        "the end of the node's agent",
    )
    log = cluster.shell(f"kubectl orb node clean {name}")
    assert "/opt/cni/bin/coordinator removed" in log
    cluster.until(
        lambda: (
            not [
                pod_object
                for pod_object in objects_in_release_namespace(cluster, "/api/v1/pods")
                if pod_object["metadata"]["name"].startswith("orbweaver-node-clean-")
            ]
        ),
        "the end of the Pod that cleans the node",
    )
