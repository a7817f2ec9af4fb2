"""``kubectl orb`` runs orbctl in a controller's Pod.

The cluster's first controller runs outside Pods, so the tests start another controller in a Pod.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.cli.exit_codes import Exit
from ops.lab.programs import attempt
from tests.nodes.controller_pod import APP_LABEL, controller_pod
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP_NAMESPACE, annotated_with_pool, pod, pool
from tests.support.kubernetes import KUBERNETES_PROGRAMS

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

Orb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def orb(cluster: KubernetesCluster) -> Orb:
    """A function that runs ``kubectl orb``; no environment variable names etcd endpoints."""
    cluster.apply(controller_pod(cluster, "node-a"))
    cluster.wait_for_pods(1, app=APP_LABEL)

    def kubectl_orb(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{KUBERNETES_PROGRAMS}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "KUBECONFIG": str(cluster.server.kubeconfig),
            "HOME": str(cluster.server.directory),
        }
        assignments = [f"{name}={value}" for name, value in variables.items()]
        command = ["env", "-i", *assignments, "kubectl", "orb", *arguments]
        return attempt(cluster.server.location.inside(command), stdin=stdin)

    return kubectl_orb


def test_kubectl_orb_reads_etcd_through_the_controllers_pod(
    cluster: KubernetesCluster, orb: Orb
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", annotated_with_pool("green"), node="node-b"))
    cluster.until(lambda: len(cluster.claims()) == 1, "an address")
    (address,) = cluster.claims()

    history = orb("history", address)
    pools = orb("get", "pools", "-o", "json")
    verified = orb("verify")

    assert "shop/alpha" in history.stdout, history.stderr
    assert [item["metadata"]["name"] for item in json.loads(pools.stdout)["items"]] == ["green"]
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_kubectl_orb_sends_local_files_and_returns_orbctls_exit_code(
    cluster: KubernetesCluster, orb: Orb, tmp_path: Path
) -> None:
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(pool("own", "10.6.0.60")))

    missing = orb("get", "pool", "own")
    applied = orb("apply", "-f", str(path))
    piped = orb("apply", "-f", "-", stdin=path.read_text())
    stored_pools = cluster.store_reader.read_ledger().pools.keys()
    deleted = orb("delete", "pool", "own")
    exported = cluster.laboratory.orbctl("export")

    assert missing.returncode == Exit.NOT_FOUND
    assert "own" in missing.stderr
    assert applied.returncode == 0, applied.stderr
    assert piped.returncode == 0, piped.stderr
    assert stored_pools == {"own"}
    assert deleted.returncode == 0, deleted.stderr
    # The event log names the user who runs kubectl on this machine, not the user in the Pod.
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert f"{user}@{socket.gethostname()}" in exported.stdout


def test_kubectl_orb_fails_if_no_controller_runs_in_a_pod(
    cluster: KubernetesCluster, orb: Orb
) -> None:
    cluster.server.kubectl(
        "delete", "pod", APP_LABEL, "--namespace", SHOP_NAMESPACE, "--now", "--wait=true"
    )

    done = orb("status")

    assert done.returncode == Exit.NOT_FOUND
    assert "no controller runs in this cluster" in done.stderr
