"""The etcd of the chart: three members by their own variables, with the certificates of its Job."""

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

from tests.chart.rendering import NAMESPACE, Object, find, objects
from tests.kubernetes.test_hooks_of_the_chart import SECRETS, Hooks
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

DOMAIN = f"orbweaver-etcd.{NAMESPACE}.svc.cluster.local"
MEMBERS = tuple(f"orbweaver-etcd-{number}" for number in range(3))
PATIENCE_S = 60.0
CERTIFICATE = ("ORBWEAVER_ETCD_CERT_FILE", "ORBWEAVER_ETCD_KEY_FILE")
ORBCTL = str(Path(sys.executable).with_name("orbctl"))


class Members:
    """Three members, and whoever asks them."""

    def __init__(self, rendered: list[Object], directory: Path) -> None:
        # The domain of a headless Service has the addresses of all its Pods.
        names = {name: (f"{name}.{DOMAIN}", DOMAIN) for name in MEMBERS}
        self.hosts = Hosts(directory, names | {"orbctl": ("orbctl",)})
        self._rendered = rendered
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """While they run."""
        with self.hosts.network():
            try:
                for name in MEMBERS:
                    self.start(name)
                yield
            finally:
                for name in list(self._running):
                    self.end(name)

    def start(self, name: str) -> None:
        """Start a member as its container does."""
        pod = find("StatefulSet", "orbweaver-etcd", self._rendered)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        told = self._told(container, {"ETCD_NAME": name})
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.hosts.inside(name, container["command"]),
                env={"PATH": os.environ["PATH"], **told},
                stdout=log,
                stderr=log,
            )

    def end(self, name: str) -> None:
        """End a member as a crash would."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)

    def orbctl(
        self, *arguments: str, stdin: str = "", without: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run orbctl with what a controller's container is told of etcd, ``without`` some of it."""
        pod = find("Deployment", "orbweaver-controller", self._rendered)["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        told = {
            key: value
            for key, value in self._told(container, {}).items()
            if key.startswith(("ORBWEAVER_ETCD", "ORBWEAVER_CLUSTER")) and key not in without
        }
        return subprocess.run(
            self.hosts.inside("orbctl", [ORBCTL, *arguments]),
            env={"PATH": os.environ["PATH"], "HOME": str(self._directory), **told},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def expect_answer(self) -> None:
        """Wait until orbctl gets an answer."""
        deadline = time.monotonic() + PATIENCE_S
        while (done := self.orbctl("status")).returncode:
            logs = [(self._directory / f"{name}.log").read_text()[-1500:] for name in MEMBERS]
            assert time.monotonic() < deadline, "\n".join([done.stderr, *logs])
            time.sleep(0.2)

    def _told(self, container: dict[str, Any], known: dict[str, str]) -> dict[str, str]:
        """Its variables, with mounts in the test's directory."""
        places = {
            "/etc/etcd/tls": self._directory / "member",
            "/etc/orbweaver/etcd": self._directory / "client",
            "/var/lib/etcd": self._directory / known.get("ETCD_NAME", ""),
        }
        told = dict(known)
        for entry in container["env"]:
            value = entry.get("value", known.get(entry["name"], ""))
            for name, found in told.items():
                value = value.replace(f"$({name})", found)
            for path, place in places.items():
                value = value.replace(path, str(place))
            told[entry["name"]] = value
        return told


@pytest.fixture
def members(server: ApiServer, tmp_path: Path) -> Iterator[Members]:
    hooks = Hooks(server, tmp_path)
    hooks.run("orbweaver-etcd-certificates")
    for kind in ("member", "client"):
        (tmp_path / kind).mkdir()
        for name, content in hooks.secret(f"orbweaver-etcd-{kind}").items():
            (tmp_path / kind / name).write_bytes(content)
    found = Members(objects({}), tmp_path)
    with found.running():
        yield found
    server.request("DELETE", SECRETS)


def test_members_and_clients_meet_by_the_certificates_of_the_job(members: Members) -> None:
    members.expect_answer()
    pool = (
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
        "metadata: {name: lan}\nspec: {subnet: 10.6.0.0/16, ips: [10.6.0.1]}\n"
    )
    applied = members.orbctl("apply", "-f", "-", stdin=pool)
    assert applied.returncode == 0, applied.stderr

    members.end(MEMBERS[1])
    members.expect_answer()
    assert "lan" in members.orbctl("get", "pools").stdout
    members.start(MEMBERS[1])

    stranger = members.orbctl("status", without=CERTIFICATE)
    assert stranger.returncode != 0, "who has no certificate gets no answer"
