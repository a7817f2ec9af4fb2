"""The services of ``docker-compose.yml`` work when they run as processes without containers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.packaging.composed import DEADLINE_S, Composition
from tests.packaging.project import PROJECT_ROOT
from tests.support.parts import NAMESPACES, PROMETHEUS, needs

ETCD_MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
UP_QUERY_URL = "http://127.0.0.1:9090/api/v1/query?query=up"
ALERTS_URL = "http://127.0.0.1:9090/api/v1/alerts"
NO_ANSWER = {"alertname": "Prometheus did not answer"}
ALERTS_OF_A_SLOW_MACHINE = frozenset({"OrbweaverStoreSlow", "OrbweaverEtcdDiskSlow"})
"""Alerts on the speed of the last five minutes, which a busy machine makes active for that long."""

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
    """All services except collector, Jaeger and Grafana, which exist only as images."""
    names = (*ETCD_MEMBERS, "controller", "agent", "prometheus")
    services = Composition(tmp_path_factory.mktemp("composition"), names)
    with services.network():
        for name in ETCD_MEMBERS:
            services.start(name)
        for name in ETCD_MEMBERS:
            services.wait_healthy(name)
        for name in ("controller", "agent", "prometheus"):
            services.start(name)
        for name in ("controller", "agent"):
            services.wait_healthy(name)
        yield services


def test_every_target_of_prometheus_is_up(composition: Composition) -> None:
    jobs = yaml.safe_load((PROJECT_ROOT / "ops/monitoring/prometheus.yml").read_text("utf-8"))
    configured = {
        target
        for job in jobs["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }

    def targets_that_are_up() -> set[str]:
        answer = composition.get_json("prometheus", UP_QUERY_URL)
        series = answer["data"]["result"] if answer else ()
        return {sample["metric"]["instance"] for sample in series if sample["value"][1] == "1"}

    expect_eventually(lambda: targets_that_are_up() == configured, targets_that_are_up)


def test_no_alert_is_active(composition: Composition) -> None:
    def active_alerts() -> set[str]:
        answer = composition.get_json("prometheus", ALERTS_URL)
        alerts = answer["data"]["alerts"] if answer else [{"labels": NO_ANSWER}]
        return {alert["labels"]["alertname"] for alert in alerts}

    expect_eventually(lambda: active_alerts() <= ALERTS_OF_A_SLOW_MACHINE, active_alerts)


def test_orbctl_in_the_controller_uses_all_etcd_members(composition: Composition) -> None:
    applied = composition.attempt("controller", "orbctl", "apply", "-f", "-", stdin=POOL)
    assert applied.returncode == 0, applied.stderr

    table = composition.attempt("controller", "orbctl", "get", "pools").stdout
    assert "lan" in table
    status = composition.attempt("controller", "orbctl", "status")
    assert "etcd-1:2379, etcd-2:2379, etcd-3:2379" in status.stdout


def test_the_services_work_without_one_etcd_member(composition: Composition) -> None:
    composition.kill("etcd-2")

    for name in ("controller", "agent"):
        composition.wait_healthy(name)
    assert composition.attempt("controller", "orbctl", "verify").returncode == 0
    composition.start("etcd-2")
    composition.wait_healthy("etcd-2")


def expect_eventually(holds: Callable[[], bool], state: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s; last: {state()}"
        time.sleep(0.2)


def test_a_volume_path_becomes_a_path_in_the_directory_of_the_test(tmp_path: Path) -> None:
    composition = Composition(tmp_path, ("agent",))

    assert composition._with_local_paths("agent", "/var/run/spidernet/x.sock").startswith(
        str(tmp_path)
    )
