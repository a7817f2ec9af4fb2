"""The chart's etcd, run as three processes, serves only clients that have a certificate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART_NAMESPACE, Object, find_object, render_objects
from tests.kubernetes.chart.test_hooks import SECRETS_PATH, Hooks
from tests.support.hosts import Hosts
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, NAMESPACES, needs

pytest.importorskip("helm_python", reason=needs(HELM))
pytestmark = [
    pytest.mark.netns,
    pytest.mark.etcd,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason=needs(NAMESPACES)),
]

DOMAIN = f"orbweaver-etcd.{CHART_NAMESPACE}.svc.cluster.local"
MEMBERS = tuple(f"orbweaver-etcd-{number}" for number in range(3))
WAIT_S_MAX = 60.0
CERTIFICATE_VARIABLES = ("ORBWEAVER_ETCD_CERT_FILE", "ORBWEAVER_ETCD_KEY_FILE")
ORBCTL = str(Path(sys.executable).with_name("orbctl"))
CONTROLLER_PROGRAM = str(Path(sys.executable).with_name("orbweaver-controller"))
# Workloads (kind, name); orbctl runs with the etcd variables of one of them.
CONTROLLER = ("Deployment", "orbweaver-controller")
AGENT = ("DaemonSet", "orbweaver-agent")
FETCH_SCRIPT = """
import ssl, sys, urllib.request
url, *files = sys.argv[1:]
context = ssl.create_default_context(cafile=files[0]) if files else None
if files[1:]:
    context.load_cert_chain(*files[1:])
urllib.request.urlopen(url, context=context, timeout=5).read()
"""
PEER_PORT, METRICS_PORT = 2580, 2581
POOL_MANIFEST = (
    "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
    "metadata: {name: %s}\nspec: {subnet: 10.6.0.0/16, ips: [10.6.0.%d]}\n"
)


class EtcdMembers:
    """Three etcd members and a client, each on its own host of a test network.

    ``directory`` has one subdirectory for each Secret of the chart.
    """

    def __init__(self, rendered: list[Object], directory: Path) -> None:
        # The domain of a headless Service resolves to the addresses of all members.
        names = {name: (f"{name}.{DOMAIN}", DOMAIN) for name in MEMBERS}
        self.hosts = Hosts(directory, names | {"orbctl": ("orbctl",)})
        self._rendered = rendered
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.hosts.network():
            try:
                for name in MEMBERS:
                    self.start(name)
                yield
            finally:
                for name in list(self._running):
                    self.kill(name)

    def start(self, name: str) -> None:
        pod = find_object("StatefulSet", "orbweaver-etcd", self._rendered)["spec"]["template"][
            "spec"
        ]
        (container,) = pod["containers"]
        environment = self._container_environment(
            container, {"ETCD_NAME": name, "POD_IP": self.hosts.address(name)}
        )
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.hosts.inside(name, container["command"]),
                env={"PATH": os.environ["PATH"], **environment},
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S_MAX)

    def orbctl(
        self,
        *arguments: str,
        stdin: str = "",
        without: tuple[str, ...] = (),
        workload: tuple[str, str] = CONTROLLER,
    ) -> subprocess.CompletedProcess[str]:
        """Run orbctl with the etcd variables of a workload's container, except ``without``."""
        return self._run([ORBCTL, *arguments], workload, stdin, without)

    def require_authentication(self) -> None:
        done = self._run([CONTROLLER_PROGRAM, "etcd-access"], ("Job", "orbweaver-etcd-access"))
        assert done.returncode == 0, done.stderr

    def can_fetch(self, url: str, *tls_files: Path) -> bool:
        """Whether a GET from the first member's host succeeds.

        ``tls_files``: none, or (CA), or (CA, client certificate, key).
        """
        command = [sys.executable, "-c", FETCH_SCRIPT, url, *map(str, tls_files)]
        command_on_host = self.hosts.inside(MEMBERS[0], command)
        done = subprocess.run(command_on_host, capture_output=True, check=False)
        return done.returncode == 0

    def _run(
        self,
        command: list[str],
        workload: tuple[str, str],
        stdin: str = "",
        without: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        pod = find_object(*workload, self._rendered)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "etcd-tls")
        environment = {
            key: value.replace(
                "/etc/orbweaver/etcd", str(self._directory / volume["secret"]["secretName"])
            )
            for key, value in self._container_environment(container, {}).items()
            if key.startswith(("ORBWEAVER_ETCD", "ORBWEAVER_CLUSTER")) and key not in without
        }
        return subprocess.run(
            self.hosts.inside("orbctl", command),
            env={"PATH": os.environ["PATH"], "HOME": str(self._directory), **environment},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def until_orbctl_succeeds(self) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while (done := self.orbctl("status")).returncode:
            logs = [(self._directory / f"{name}.log").read_text()[-1500:] for name in MEMBERS]
            assert time.monotonic() < deadline, "\n".join([done.stderr, *logs])
            time.sleep(0.2)

    def _container_environment(
        self, container: dict[str, Any], known: dict[str, str]
    ) -> dict[str, str]:
        """The variables of a container, with paths of the test instead of mount paths.

        ``known``: variables that Kubernetes would set.
        """
        directories = {
            "/etc/etcd/tls": self._directory / "orbweaver-etcd-member",
            "/var/lib/etcd": self._directory / known.get("ETCD_NAME", ""),
        }
        environment = dict(known)
        for entry in container["env"]:
            value = entry.get("value", known.get(entry["name"], ""))
            for name, earlier_value in environment.items():
                value = value.replace(f"$({name})", earlier_value)
            for path, directory in directories.items():
                value = value.replace(path, str(directory))
            environment[entry["name"]] = value
        return environment


@pytest.fixture
def members(server: ApiServer, tmp_path: Path) -> Iterator[EtcdMembers]:
    hooks = Hooks(server, tmp_path)
    hooks.run("orbweaver-etcd-certificates")
    for kind in ("member", "agent", "controller", "root", "metrics"):
        secret = tmp_path / f"orbweaver-etcd-{kind}"
        secret.mkdir()
        for name, content in hooks.secret(secret.name).items():
            (secret / name).write_bytes(content)
    members = EtcdMembers(render_objects({}), tmp_path)
    with members.running():
        yield members
    server.request("DELETE", SECRETS_PATH)


def test_etcd_tolerates_a_killed_member_and_refuses_a_client_without_a_certificate(
    members: EtcdMembers,
) -> None:
    members.until_orbctl_succeeds()
    apply_result = members.orbctl("apply", "-f", "-", stdin=POOL_MANIFEST % ("lan", 1))
    assert apply_result.returncode == 0, apply_result.stderr

    members.kill(MEMBERS[1])
    members.until_orbctl_succeeds()
    assert "lan" in members.orbctl("get", "pools").stdout
    members.start(MEMBERS[1])

    without_certificate = members.orbctl("status", without=CERTIFICATE_VARIABLES)
    assert without_certificate.returncode != 0, "etcd answered a client without a certificate"


def test_an_agents_certificate_allows_neither_pool_changes_nor_peer_connections(
    members: EtcdMembers, tmp_path: Path
) -> None:
    members.until_orbctl_succeeds()
    members.require_authentication()

    by_controller = members.orbctl("apply", "-f", "-", stdin=POOL_MANIFEST % ("lan", 1))
    by_agent = members.orbctl(
        "apply", "-f", "-", stdin=POOL_MANIFEST % ("forged", 2), workload=AGENT
    )
    assert by_controller.returncode == 0, by_controller.stderr
    assert by_agent.returncode != 0
    assert "permission denied" in by_agent.stderr
    assert members.orbctl("get", "pools", workload=AGENT).stdout.count("10.6.0.") == 1

    peer = f"https://{MEMBERS[1]}.{DOMAIN}:{PEER_PORT}/version"
    assert members.can_fetch(peer, *_tls_files(tmp_path, "member"))
    assert not members.can_fetch(peer, *_tls_files(tmp_path, "agent"))


def test_another_host_reads_metrics_only_with_a_certificate(
    members: EtcdMembers, tmp_path: Path
) -> None:
    members.until_orbctl_succeeds()
    other_member = f"{MEMBERS[1]}.{DOMAIN}:{METRICS_PORT}"

    authority, *client_certificate = _tls_files(tmp_path, "metrics")
    assert members.can_fetch(f"http://127.0.0.1:{METRICS_PORT}/metrics")
    assert not members.can_fetch(f"http://{other_member}/metrics")
    assert not members.can_fetch(f"https://{other_member}/metrics", authority)
    assert members.can_fetch(f"https://{other_member}/metrics", authority, *client_certificate)


def _tls_files(directory: Path, kind: str) -> tuple[Path, ...]:
    """The files of a Secret: CA, certificate and key."""
    secret = directory / f"orbweaver-etcd-{kind}"
    return tuple(secret / name for name in ("ca.crt", "tls.crt", "tls.key"))
