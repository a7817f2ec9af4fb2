"""Runs the guides of docs/guides on a cluster that has what the guides assume.

Each node has Multus, the image ``busybox``, and a bridge in place of an overlay such as Calico.
Pools allocate the lowest free address, so that a guide prints the same addresses each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import yaml

from core.manifests.kinds.fields import API_VERSION
from ops.lab.fabric import FABRIC_BRIDGE
from ops.lab.programs import plugin
from tests.nodes.control_plane import NODE_NAMES
from tests.nodes.kubelet import KubeNode
from tests.nodes.kubernetes_cluster import CONF_WITH_DEVICE_PLUGIN, KubernetesCluster
from tests.nodes.multus import Multus
from tests.nodes.rights import PRODUCTION_CHART, agent_role
from tests.packaging.project import PROJECT_ROOT
from tests.runtime.pause_image import tar, write_image
from tests.support.documents import Page, Step, comparable_lines, run_script
from tests.support.kubernetes import KUBERNETES_PROGRAMS

GUIDES_FOLDER: Final = PROJECT_ROOT / "docs" / "guides"
SHARED_GUIDE: Final = GUIDES_FOLDER / "before-you-begin.md"
"""Executed before all other guides, and undone last."""

NAMESPACE: Final = "default"

BUSYBOX_PROGRAM: Final = Path("/bin/busybox")
GUIDES_IMAGE: Final = "docker.io/library/busybox:1.37"
SECOND_GATEWAY: Final = "10.7.0.1/24"
"""The fabric's address in the second network of the guides."""

OVERLAY: Final = {"cniVersion": "1.0.0", "name": "overlay", "plugins": [{"type": "overlay"}]}

WAIT_S_MAX: Final = 60.0
"""Seconds until a step must print the expected output."""

POLL_S: Final = 0.2

SETTLED_S: Final = 1.5
"""Seconds between two runs of a step that must print equal outputs."""

STEP_S_MAX: Final = 90.0
"""Limit of one execution of a step."""

COLLECTIONS: Final = (
    *(f"/apis/{API_VERSION}/{plural}" for plural in ("spiderippools", "spidersubnets")),
    f"/apis/{API_VERSION}/spiderreservedips",
    f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/spidermultusconfigs",
    f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/spiderendpoints",
    f"/apis/k8s.cni.cncf.io/v1/namespaces/{NAMESPACE}/network-attachment-definitions",
    f"/api/v1/namespaces/{NAMESPACE}/pods",
    f"/api/v1/namespaces/{NAMESPACE}/services",
    *(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("deployments", "statefulsets")),
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
"""Collections in which a guide may leave objects."""


class GuideRunner:
    """Executes the steps of guides as a user would.

    With ``writes_pages`` it writes the outputs into the pages instead of comparing them.
    """

    def __init__(self, cluster: KubernetesCluster, *, writes_pages: bool) -> None:
        self.cluster = cluster
        self._writes_pages = writes_pages
        self._environment = os.environ | {
            "PATH": f"{KUBERNETES_PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.server.kubeconfig),
            "ORBWEAVER_ETCD_ENDPOINTS": cluster.laboratory.etcd.endpoint,
        }

    def execute_and_undo(self, page: Page) -> set[str]:
        """Execute and undo a page; return the objects that the page has left or deleted."""
        before = self._objects()
        with self.executed(page):
            pass
        return self._objects() ^ before

    @contextmanager
    def executed(self, page: Page) -> Iterator[None]:
        """Execute a page and undo it when the context ends."""
        before = self._objects()
        printed = [""] * len(page.steps)
        try:
            for index, step in enumerate(page.steps[: page.step_count_before_undo]):
                printed[index] = self._run_until_shown(step)
            yield
        finally:
            for index, step in enumerate(
                page.steps[page.step_count_before_undo :], page.step_count_before_undo
            ):
                printed[index] = self._run_until_shown(step)
        self.cluster.until(lambda: self._objects() == before, f"only the objects {before}")
        if self._writes_pages:
            page.write(printed)

    def _objects(self) -> set[str]:
        return {
            f"{path}/{item['metadata']['name']}"
            for path in COLLECTIONS
            for item in self.cluster.server.request("GET", path).body.get("items", ())
        }

    def _run_until_shown(self, step: Step) -> str:
        """Repeat a step until it prints the page's output; a step without output must succeed."""
        deadline = time.monotonic() + WAIT_S_MAX
        expected = None if step.output is None else comparable_lines(step.output)
        while True:
            done = self._run(step.script)
            if not self._writes_pages and expected in (None, comparable_lines(done.stdout)):
                break
            if self._writes_pages and (expected is None or self._is_settled(step, done.stdout)):
                break
            assert time.monotonic() < deadline, self._failure(step, done.stdout)
            time.sleep(POLL_S)
        assert done.returncode == 0 or expected is not None, self._failure(step, done.stdout)
        return done.stdout

    def _is_settled(self, step: Step, printed: str) -> bool:
        time.sleep(SETTLED_S)
        return comparable_lines(self._run(step.script).stdout) == comparable_lines(printed)

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        enter_namespace = self.cluster.laboratory.fabric.namespace.inside([])
        return run_script(enter_namespace, script, self._environment, PROJECT_ROOT, STEP_S_MAX)

    def _failure(self, step: Step, printed: str) -> str:
        events = self._run("kubectl get events | grep -v Normal; kubectl get pods").stdout
        return f"{step.script}\nprints\n{printed}\nnot\n{step.output}\n{events[-4000:]}"


@contextmanager
def guide_runner(
    cluster: KubernetesCluster, archive: Path, *, writes_pages: bool
) -> Iterator[GuideRunner]:
    """Prepare the cluster for guides, and restore the cluster at the end.

    It writes the image ``busybox`` to ``archive``.
    """
    write_busybox(archive)
    account = ("serviceaccount", "default", "--namespace", NAMESPACE)
    cluster.server.kubectl("patch", *account, "-p", '{"automountServiceAccountToken": false}')
    cluster.apply(agent_role(PRODUCTION_CHART))
    with ExitStack() as stack:
        cluster.laboratory.fabric.namespace.ip(
            "address", "replace", SECOND_GATEWAY, "dev", FABRIC_BRIDGE
        )
        for number, name in enumerate(NODE_NAMES):
            cluster.nodes[name].containerd.import_image(archive)
            restart_agent_with_conf(cluster, name, conf_of_guides(cluster.nodes[name]))
            stack.callback(restart_agent_with_conf, cluster, name, CONF_WITH_DEVICE_PLUGIN)
            install_overlay_plugin(cluster.nodes[name].node.plugins, number)
            stack.enter_context(Multus(cluster, name, OVERLAY))
        runner = GuideRunner(cluster, writes_pages=writes_pages)
        with runner.executed(Page(SHARED_GUIDE)):
            yield runner


def conf_of_guides(node: KubeNode) -> str:
    cluster_ip = {
        "enabled": True,
        "cgroup": str(node.pods_cgroup),
        "bpffs": str(node.node.directory),
    }
    conf = yaml.safe_load(CONF_WITH_DEVICE_PLUGIN)
    conf["enableIPConflictDetection"] = True
    conf["orbweaver"] |= {"addressOrder": "sequential", "clusterIP": cluster_ip}
    return yaml.safe_dump(conf)


def install_overlay_plugin(plugins: Path, number: int) -> None:
    """Install the plugin ``overlay``: a script that calls ``bridge`` with a fixed configuration.

    The script ignores the configuration of Multus, which omits host-local's ranges on DEL.
    """
    ipam = {
        "type": "host-local",
        "subnet": f"10.244.{number}.0/24",
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"/run/overlay-{number}",
    }
    named = {"cniVersion": OVERLAY["cniVersion"], "name": OVERLAY["name"]}
    bridge = {**named, "type": "bridge", "bridge": "br-overlay", "isGateway": True, "ipam": ipam}
    script = plugins / str(OVERLAY["name"])
    script.write_text(f"#!/bin/sh\nexec {plugin('bridge')} <<END\n{json.dumps(bridge)}\nEND\n")
    script.chmod(0o755)
    (plugins / "host-local").symlink_to(plugin("host-local"))


def restart_agent_with_conf(cluster: KubernetesCluster, name: str, conf: str) -> None:
    node = cluster.nodes[name].node
    (node.directory / "conf.yml").write_text(conf)
    node.agent.kill()
    node.start_agent()


def write_busybox(archive: Path) -> None:
    """Write an image archive that contains the machine's busybox."""
    names = subprocess.run(
        [BUSYBOX_PROGRAM, "--list"], capture_output=True, text=True, check=True
    ).stdout
    files = {"bin/busybox": (BUSYBOX_PROGRAM.read_bytes(), 0o755)}
    links = {f"bin/{name}": "busybox" for name in names.split() if name != "busybox"}
    write_image(archive, GUIDES_IMAGE, tar(files, links), {"Env": ["PATH=/bin"], "Cmd": ["sh"]})
