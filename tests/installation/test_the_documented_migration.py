"""Runs the commands of docs/how-to/migrate-from-spiderpool.md on a cluster with a real Spiderpool.

Pods must run all the time. ``--junitxml`` records the outage of ADD and DEL during each change.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ops.lab.programs import plugin
from tests.installation import spiderpool
from tests.installation.bare_cluster import BareCluster
from tests.installation.cni_prober import CniProber
from tests.packaging.project import PROJECT_ROOT
from tests.runtime.pause_image import IMAGE_NAME
from tests.support.documents import shell_blocks
from tests.support.parts import SPIDERPOOL, needs

GUIDE = PROJECT_ROOT / "docs/how-to/migrate-from-spiderpool.md"
INSTALL = PROJECT_ROOT / "docs/how-to/install.md"
VALUES = """
ipam: {enableIPv6: false, spiderSubnet: {enable: true}}
coordinator: {podCIDRType: none}
multus: {multusCNI: {defaultCniCRName: lan}}
plugins:
  installCNI: false
  installRdmaCNI: false
  installOvsCNI: false
  installSriovCNI: false
  installibSriovCNI: false
  installIpoibCNI: false
  installVlanCNI: false
"""
"""``lan`` is the network of ``BareCluster``."""

OBJECTS = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: kubeadm-config, namespace: kube-system}}
data:
  ClusterConfiguration: |
    networking:
      podSubnet: 10.244.0.0/16
      serviceSubnet: 10.96.0.0/16
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: lan}}
spec: {{default: true, subnet: 10.6.0.0/16, ips: [10.6.10.1-10.6.10.250], gateway: 10.6.0.1}}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata: {{name: later}}
spec: {{ips: [10.6.10.240-10.6.10.250]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: web, image: "{IMAGE_NAME}"}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, namespace: default}}
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: db, image: "{IMAGE_NAME}"}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: probe, namespace: default}}
spec: {{schedulerName: none, containers: [{{name: probe, image: "{IMAGE_NAME}"}}]}}
"""
"""The Pod ``probe`` is for the prober's calls, and never runs."""

SCALE_DOWN = """
kubectl annotate pod {names} controller.kubernetes.io/pod-deletion-cost=-100
kubectl scale deployment web --replicas=4
"""
"""Kubernetes deletes the annotated Pods first."""

PODS_PATH = "/api/v1/namespaces/default/pods"
ENDPOINTS_PATH = "/apis/spiderpool.spidernet.io/v2beta1/spiderendpoints"
POOL_PATH = "/apis/spiderpool.spidernet.io/v2beta1/spiderippools/lan"
DAEMONSETS_PATH = "/apis/apps/v1/namespaces/spiderpool/daemonsets"
PROBED_NODE = "node-a"

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(3000),
]


class RunningPod(NamedTuple):
    """Properties of a Pod that an interruption changes."""

    uid: str
    address: str
    container: str
    restarts: int


@pytest.fixture(scope="module")
def programs() -> Path:
    directory = spiderpool.build_directory()
    if directory is None:
        pytest.skip(needs(SPIDERPOOL, f"{spiderpool.VARIABLE} is not set"))
    if absent := spiderpool.missing_files(directory):
        pytest.skip(needs(SPIDERPOOL, f"no {', no '.join(absent)}"))
    return directory


@pytest.fixture(scope="module")
def cluster(images_are_built: None, registry_data: Path) -> Iterator[BareCluster]:
    """A separate cluster, because Orbweaver stays installed at the end."""
    with BareCluster(registry_data) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_with_spiderpool(
    programs: Path, cluster: BareCluster, tmp_path_factory: pytest.TempPathFactory
) -> BareCluster:
    """A cluster in which Spiderpool allocated the address of every Pod."""
    archive = tmp_path_factory.mktemp("spiderpool") / "image.tar"
    image = spiderpool.save_image(programs, archive)
    for node in cluster.nodes.values():
        node.containerd.import_image(archive)
        node.containerd.tag_image(image, *spiderpool.image_names(programs))
        for name in ("macvlan", "loopback"):  # a symbolic link would break in Multus' container
            (node.node.plugins / name).unlink()
            (node.node.plugins / name).write_bytes(plugin(name).read_bytes())
            (node.node.plugins / name).chmod(0o755)
        node.node.namespace.ip("route", "add", "10.6.0.0/16", "dev", "eth0")
    archive.unlink()
    values = archive.with_name("values.yaml")
    values.write_text(VALUES)
    cluster.shell(
        "kubectl create namespace spiderpool\n"
        f"helm install spiderpool {programs}/chart -n spiderpool -f {values}\n"
        f"kubectl apply -f - <<'END'\n{OBJECTS}END\n"
    )
    return cluster


def test_pods_keep_their_addresses_through_migrations_and_rollbacks(
    cluster_with_spiderpool: BareCluster,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    cluster = cluster_with_spiderpool
    # The page's shell blocks, in order.
    plan, save, definitions, standby, rehearse, remove_standby, multus, *rest = shell_blocks(GUIDE)
    old_multus, stop, start, serve, check, withdraw, resume, again, remove, restore = rest
    for name in ("ops", "build"):
        (tmp_path / name).symlink_to(PROJECT_ROOT / name)

    def run(*scripts: str) -> None:
        for script in scripts:
            cluster.shell(script, tmp_path)

    cluster.until(lambda: len(running_pods(cluster)) == 6, "six Pods with addresses")
    before, claimed = running_pods(cluster), addresses_of_endpoints(cluster)
    cluster.shell(shell_blocks(INSTALL)[1])
    # Go back from each step before Orbweaver serves.
    run(plan, save, definitions, standby, rehearse, remove_standby)
    assert_pods_come_and_go(cluster, before)
    run(standby, rehearse, multus, old_multus, remove_standby)
    assert_pods_come_and_go(cluster, before)
    run(standby, rehearse, multus, stop, start)
    assert_pods_come_and_go(cluster, before)
    assert_unchanged(cluster, before, claimed)

    # Switch to Orbweaver, and go back while Spiderpool is still installed.
    run(again)
    record_testsuite_property("switch_s", outage_s(cluster, lambda: run(stop, serve)))
    assert_unchanged(cluster, before, claimed)

    run(check)
    scale(cluster, 5)
    assert_unchanged(cluster, before, claimed)
    record_testsuite_property("way_back_s", outage_s(cluster, lambda: run(withdraw, resume)))
    keep_only(cluster, before)
    scale(cluster, 6)
    assert_unchanged(cluster, before, claimed)
    assert addresses_of_pool(cluster) == addresses_of_endpoints(cluster)

    # Switch again, and go back after Spiderpool was removed.
    run(again, stop, serve, check, remove)
    scale(cluster, 7)
    assert_unchanged(cluster, before, claimed)
    assert not cluster.objects(DAEMONSETS_PATH)

    record_testsuite_property(
        "way_back_after_removal_s", outage_s(cluster, lambda: run(withdraw, restore))
    )
    run(remove_standby)
    assert_unchanged(cluster, before, claimed)
    assert addresses_of_pool(cluster) == addresses_of_endpoints(cluster)
    keep_only(cluster, before)
    assert_pods_come_and_go(cluster, before)

    # Migrate, and stay with Orbweaver.
    run(standby, rehearse, multus, stop, serve, check, remove)
    scale(cluster, 5)
    assert_unchanged(cluster, before, claimed)
    assert not cluster.objects(DAEMONSETS_PATH)


def assert_pods_come_and_go(cluster: BareCluster, before: dict[str, RunningPod]) -> None:
    """Start and delete one Pod; the Pods in ``before`` must keep running."""
    scale(cluster, len(before) - 1)
    assert len(set(running_pods(cluster)) - set(before)) == 1
    keep_only(cluster, before)


def keep_only(cluster: BareCluster, before: dict[str, RunningPod]) -> None:
    """Scale down to the Pods in ``before``; wait until the other addresses are released."""
    newer = set(running_pods(cluster)) - set(before)
    cluster.shell(SCALE_DOWN.format(names=" ".join(sorted(newer))))
    cluster.until(
        lambda: not newer & set(addresses_of_endpoints(cluster).values()), f"the end of {newer}"
    )
    cluster.until(lambda: running_pods(cluster) == before, f"only {sorted(before)} run")


def running_pods(cluster: BareCluster) -> dict[str, RunningPod]:
    return {
        pod["metadata"]["name"]: RunningPod(
            pod["metadata"]["uid"],
            pod["status"]["podIP"],
            status["containerID"],
            status["restartCount"],
        )
        for pod in cluster.objects(PODS_PATH)
        for status in pod["status"].get("containerStatuses", ())
        if status["ready"] and "deletionTimestamp" not in pod["metadata"]
    }


def addresses_of_endpoints(cluster: BareCluster) -> dict[str, str]:
    """Address -> Pod, from SpiderEndpoints, without ``probe``."""
    return {
        nic["ipv4"].partition("/")[0]: endpoint["metadata"]["name"]
        for endpoint in cluster.objects(ENDPOINTS_PATH)
        for nic in endpoint["status"]["current"]["ips"]
        if endpoint["metadata"]["name"] != "probe"
    }


def addresses_of_pool(cluster: BareCluster) -> dict[str, str]:
    """Address -> Pod, from the pool's status, without ``probe``."""
    text = cluster.server.request("GET", POOL_PATH).body["status"]["allocatedIPs"]
    pods = {
        address: allocation["pod"].partition("/")[2]
        for address, allocation in json.loads(text).items()
    }
    return {address: name for address, name in pods.items() if name != "probe"}


def assert_unchanged(
    cluster: BareCluster, before: dict[str, RunningPod], claimed: dict[str, str]
) -> None:
    """Pods in ``before`` must run without interruption, and all addresses must differ."""
    now, endpoints = running_pods(cluster), addresses_of_endpoints(cluster)
    assert before.items() <= now.items()
    assert claimed.items() <= endpoints.items()
    assert {pod.address: name for name, pod in now.items()}.items() <= endpoints.items()
    assert len({pod.address for pod in now.values()}) == len(now)


def prober(cluster: BareCluster) -> CniProber:
    node = cluster.nodes[PROBED_NODE]
    enter = node.node.namespace.inside(node.containerd.with_mounts())
    space = f"{PROBED_NODE}-probe"
    script = f"ip netns add {space} && ip -n {space} link add eth0 type dummy || true"
    node.node.namespace.run(*node.containerd.with_mounts("sh", "-c", script))
    pod: Any = cluster.server.request("GET", f"{PODS_PATH}/probe").body["metadata"]
    return CniProber(enter, f"/run/netns/{space}", ("default", "probe", pod["uid"]))


def outage_s(cluster: BareCluster, change: Callable[[], None]) -> float:
    """Run ``change``; return the outage of ADD and DEL meanwhile."""
    with prober(cluster) as probe:
        wait_for_successful_calls(cluster, probe)
        change()
        wait_for_successful_calls(cluster, probe)
    return probe.outage_s


def wait_for_successful_calls(cluster: BareCluster, probe: CniProber) -> None:
    now_s = time.monotonic()
    cluster.until(
        lambda: probe.succeeded_since(now_s),
        f"a successful ADD and DEL; last call: {probe.calls[-1:]}",
    )


def scale(cluster: BareCluster, replicas: int) -> None:
    cluster.shell(f"kubectl scale deployment web --replicas={replicas}")
    cluster.until(lambda: len(running_pods(cluster)) == replicas + 2, f"{replicas} Pods of web")
