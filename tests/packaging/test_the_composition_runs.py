"""The services of ``docker-compose.yml`` work, run as processes without a container engine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.packaging.composed import PATIENCE_S, Composition
from tests.packaging.project import ROOT
from tests.support.parts import NAMESPACES, PROMETHEUS, needs

MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
QUERY = "http://127.0.0.1:9090/api/v1/query?query=up"
ALERTS = "http://127.0.0.1:9090/api/v1/alerts"
POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan}
spec: {subnet: 10.6.0.0/16, ips: [10.6.10.1-10.6.10.9]}
"""

pytestmark = [
    pytest.mark.netns,
    pytest.mark.etcd,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason=needs(NAMESPACES)),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason=needs(PROMETHEUS)),
]


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """All services but those of foreign images: collector, traces, Grafana."""
    names = (*MEMBERS, "controller", "agent", "prometheus")
    found = Composition(tmp_path_factory.mktemp("composition"), names)
    with found.network():
        for name in MEMBERS:
            found.start(name)
        for name in MEMBERS:
            found.wait_healthy(name)
        for name in ("controller", "agent", "prometheus"):
            found.start(name)
        for name in ("controller", "agent"):
            found.wait_healthy(name)
        yield found


def test_every_target_of_prometheus_is_up(composition: Composition) -> None:
    jobs = yaml.safe_load((ROOT / "ops/monitoring/prometheus.yml").read_text("utf-8"))
    wanted = {
        target
        for job in jobs["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }

    def up() -> set[str]:
        answer = composition.ask("prometheus", QUERY)
        series = answer["data"]["result"] if answer else ()
        return {one["metric"]["instance"] for one in series if one["value"][1] == "1"}

    expect(lambda: up() == wanted)


def test_nothing_is_alarming(composition: Composition) -> None:
    def quiet() -> bool:
        answer = composition.ask("prometheus", ALERTS)
        return answer is not None and not answer["data"]["alerts"]

    expect(quiet)


def test_orbctl_works_in_the_controller_as_the_file_says(composition: Composition) -> None:
    applied = composition.attempt("controller", "orbctl", "apply", "-f", "-", stdin=POOL)
    assert applied.returncode == 0, applied.stderr

    shown = composition.attempt("controller", "orbctl", "get", "pools").stdout
    assert "lan" in shown
    status = composition.attempt("controller", "orbctl", "status")
    assert "etcd-1:2379, etcd-2:2379, etcd-3:2379" in status.stdout


def test_one_member_may_go(composition: Composition) -> None:
    composition.end("etcd-2")

    for name in ("controller", "agent"):
        composition.wait_healthy(name)
    assert composition.attempt("controller", "orbctl", "verify").returncode == 0
    composition.start("etcd-2")
    composition.wait_healthy("etcd-2")


def expect(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never comes to be"
        time.sleep(0.2)


def test_directories_of_the_test_alone_are_written(tmp_path: Path) -> None:
    found = Composition(tmp_path, ("agent",))

    assert found._moved("agent", "/var/run/spidernet/x.sock").startswith(str(tmp_path))
