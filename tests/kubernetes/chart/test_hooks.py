"""The Jobs of the chart (Helm hooks), run as processes with the chart's permissions."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from ops.kubernetes.certificates.authority import has_issued, names_of, read
from tests.chart.rendering import CHART_NAMESPACE, Object, find_object, render_objects, values_of
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.objects import get, pool, subnet
from tests.kubernetes.objects import path_of as path_of_kind
from tests.packaging.project import PROJECT_ROOT
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

CONTROLLER_PROGRAM = Path(sys.executable).with_name("orbweaver-controller")
SECRETS_PATH = f"/api/v1/namespaces/{CHART_NAMESPACE}/secrets"
WEBHOOKS_PATH = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
USER_OF_CERTIFICATE = {
    "agent": "orbweaver-agent",
    "controller": "orbweaver-controller",
    "root": "root",
    "metrics": "orbweaver-metrics",
}
"""Kind of client certificate -> the etcd user in its common name."""

LEASES_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{CHART_NAMESPACE}/leases"


class Hooks:
    """Runs the Jobs of the rendered chart."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.rendered = render_objects(
            {"clusterDefaultPool": values_of("production")["clusterDefaultPool"]}
        )
        self._directory = directory
        apply_permissions(server, self.rendered)

    def run(self, job: str, *replaced: tuple[str, str]) -> str:
        """Run the command of a Job with the Job's service account; return the log.

        ``replaced``: pairs (old text, new text) for the command.
        """
        pod = find_object("Job", job, self.rendered)["spec"]["template"]["spec"]
        command = [str(CONTROLLER_PROGRAM), *pod["containers"][0]["command"][1:]]
        for before, after in replaced:
            command = [text.replace(before, after) for text in command]
        kubeconfig = kubeconfig_of(self.server, pod["serviceAccountName"], self._directory)
        environment = {
            "ORBWEAVER_KUBECONFIG": str(kubeconfig),
            "SPIDERPOOL_POD_NAMESPACE": CHART_NAMESPACE,
        }
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr + done.stdout

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.server.request("GET", f"{SECRETS_PATH}/{name}").body.get("data", {})
        return {field: base64.b64decode(value) for field, value in data.items()}


def common_name_of(certificate: bytes) -> str:
    (attribute,) = read(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


@pytest.fixture
def hooks(server: ApiServer, tmp_path: Path) -> Iterator[Hooks]:
    yield Hooks(server, tmp_path)
    for path in (SECRETS_PATH, LEASES_PATH):
        server.request("DELETE", path)


def test_the_certificates_job_issues_certificates_and_a_second_run_keeps_them(hooks: Hooks) -> None:
    hooks.run("orbweaver-etcd-certificates")
    member, agent = hooks.secret("orbweaver-etcd-member"), hooks.secret("orbweaver-etcd-agent")
    hooks.run("orbweaver-etcd-certificates")

    assert member == hooks.secret("orbweaver-etcd-member")
    assert member["ca.crt"] == agent["ca.crt"]
    assert has_issued(member["ca.crt"], member["tls.crt"])
    for kind, user in USER_OF_CERTIFICATE.items():
        issued = hooks.secret(f"orbweaver-etcd-{kind}")["tls.crt"]
        assert common_name_of(issued) == user
        assert has_issued(member["ca.crt"], issued)
    domain = f"orbweaver-etcd.{CHART_NAMESPACE}.svc.cluster.local"
    assert {domain, f"*.{domain}", "127.0.0.1"} <= names_of(member["tls.crt"])


def test_a_deleted_certificate_is_issued_again_by_the_same_authority(hooks: Hooks) -> None:
    hooks.run("orbweaver-etcd-certificates")
    before = hooks.secret("orbweaver-etcd-agent")
    hooks.server.request("DELETE", f"{SECRETS_PATH}/orbweaver-etcd-agent")
    hooks.run("orbweaver-etcd-certificates")
    after = hooks.secret("orbweaver-etcd-agent")

    assert after["ca.crt"] == before["ca.crt"]
    assert after["tls.crt"] != before["tls.crt"]


def test_the_defaults_job_creates_missing_objects_and_keeps_existing_objects(
    hooks: Hooks, tmp_path: Path
) -> None:
    config_map = find_object("ConfigMap", "orbweaver-defaults", hooks.rendered)
    file = tmp_path / "objects.yaml"
    file.write_text(config_map["data"]["objects.yaml"])
    existing = pool("default-v4-ippool", subnet="10.9.0.0/16", ips=["10.9.0.1"])
    hooks.server.request("POST", path_of_kind("SpiderIPPool"), existing)
    log = hooks.run("orbweaver-defaults", ("/etc/orbweaver/defaults/objects.yaml", str(file)))

    assert "exists and was not changed" in log
    assert get(hooks.server, "SpiderIPPool", "default-v4-ippool")["spec"]["subnet"] == "10.9.0.0/16"
    assert get(hooks.server, "SpiderSubnet", "default-v6-subnet")["spec"]["ipVersion"] == 6
    assert get(hooks.server, "SpiderCoordinator", "default")["spec"]["podCIDRType"] == "auto"


def test_the_cleanup_job_removes_finalizers_webhooks_secret_and_lease(hooks: Hooks) -> None:
    server = hooks.server
    server.request("POST", WEBHOOKS_PATH, webhook_configuration())
    server.request(
        "POST", SECRETS_PATH, {"metadata": {"name": "orbweaver-controller-server-certs"}}
    )
    expired_spec = {"holderIdentity": "gone", "leaseDurationSeconds": 1}
    lease = {"metadata": {"name": "spiderpool-controller-leases"}, "spec": expired_spec}
    server.request("POST", LEASES_PATH, lease)
    for body in (with_finalizers(pool()), with_finalizers(subnet())):
        assert server.request("POST", path_of_kind(body["kind"]), body).status == 201
    server.request("DELETE", path_of_kind("SpiderIPPool", "blue"))
    pool_metadata = get(server, "SpiderIPPool", "blue")["metadata"]
    assert "deletionTimestamp" in pool_metadata, "the finalizer must delay the deletion"

    log = hooks.run("orbweaver-cleanup")

    assert "removed Orbweaver's finalizer from 2 objects" in log
    assert server.request("GET", path_of_kind("SpiderIPPool", "blue")).status == 404
    subnet_metadata = get(server, "SpiderSubnet", "wide")["metadata"]
    assert subnet_metadata.get("finalizers") == ["example.org/finalizer"]
    for path in (
        f"{WEBHOOKS_PATH}/spiderpool-controller",
        f"{SECRETS_PATH}/orbweaver-controller-server-certs",
        f"{LEASES_PATH}/spiderpool-controller-leases",
    ):
        assert server.request("GET", path).status == 404, path
    hooks.run("orbweaver-cleanup")  # succeeds also when nothing is left


def test_the_documented_command_removes_finalizers_without_the_job(
    hooks: Hooks, tmp_path: Path
) -> None:
    body = with_finalizers(pool())
    assert hooks.server.request("POST", path_of_kind(body["kind"]), body).status == 201
    page = (PROJECT_ROOT / "docs/how-to/uninstall.md").read_text()
    (command,) = re.findall(
        r"^ORBWEAVER_KUBECONFIG=.* orbweaver-controller clean$", page, re.MULTILINE
    )

    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube/config").write_text(hooks.server.kubeconfig.read_text())
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": programs}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=True
    )

    assert "removed Orbweaver's finalizer from 1 object" in done.stderr


def with_finalizers(item: Object) -> Object:
    """The object with the controller's finalizer; a subnet also has another project's finalizer."""
    foreign = ["example.org/finalizer"] if item["kind"] == "SpiderSubnet" else []
    item["metadata"]["finalizers"] = ["spiderpool.spidernet.io", *foreign]
    return item


def webhook_configuration() -> dict[str, Any]:
    return {"metadata": {"name": "spiderpool-controller"}, "webhooks": []}
