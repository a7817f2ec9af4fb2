"""A real Prometheus scrapes agent, controller and etcd, and evaluates alerts and dashboards."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from nodeagent.rdma.counter_help import HELP_TEXTS
from tests.support import parts
from tests.support.controller_process import ControllerProcess
from tests.support.deadlines import attempts
from tests.support.etcd import EtcdCluster, free_ports
from tests.support.yaml_reader import read_yaml
from workflows.jobs.archive import archive
from workflows.jobs.quarantine import probe
from workflows.jobs.reclaim import scan

PROJECT_ROOT: Final = Path(__file__).parents[3]
MONITORING_FOLDER: Final = PROJECT_ROOT / "ops" / "monitoring"
PROMETHEUS: Final = shutil.which("prometheus")
DEADLINE_S: Final = 60.0
ANSWER_S: Final = 20.0
METRIC: Final = re.compile(
    r"\b(?:(?:spiderpool|orbweaver)_[a-z_]+|workflow_[a-z]+_total|etcd_[a-z]+_[a-z_]+)\b"
)
RDMA: Final = re.compile(r"\brdma_[a-z_]+\b")

CONDITIONAL_METRICS: Final = frozenset(
    (
        "spiderpool_ipam_allocation_duration_seconds_bucket",
        "spiderpool_ipam_release_duration_seconds_bucket",
        "orbweaver_pool_addresses",
        "orbweaver_pool_exhaustion_seconds",
        "orbweaver_cluster_unwatched",
        "orbweaver_contained_faults",
        *(f"orbweaver_clusterip_{name}" for name in ("attached", "backends", "frontends")),
        *(f"orbweaver_clusterip_{name}" for name in ("failures_total", "left_out")),
        *(f"orbweaver_{name}" for name in ("roce_qos_faults", "roce_qos_gaps")),
        *(f"orbweaver_{name}" for name in ("devices_faults", "sriov_faults")),
    )
)
"""Metrics that a new cluster with the default features does not expose."""

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason=parts.needs(parts.PROMETHEUS))


class NotAnswered(AssertionError):
    """Prometheus did not answer, or is not ready yet."""


class Prometheus:
    """The HTTP API of a Prometheus process."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get_data(self, path: str, **parameters: str) -> Any:  # JSON
        """Raises NotAnswered, or AssertionError with the error that Prometheus answers."""
        query = urllib.parse.urlencode(parameters)
        try:
            url = f"{self._address}{path}?{query}"
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            # Prometheus listens before it is ready.
            is_ready = error.code != HTTPStatus.SERVICE_UNAVAILABLE
            failure = AssertionError if is_ready else NotAnswered
            raise failure(f"{path} {parameters}: {error.read().decode()}") from None
        except OSError as error:
            raise NotAnswered(f"{path} {parameters}: {error}") from None

    def has_scraped(self) -> bool:
        """Whether each target was up at least twice, because a rate needs two samples."""
        data = self.get_data("/api/v1/query", query="count_over_time(up[1m]) > 1 and up == 1")
        return len(data["result"]) == 3  # agent, controller and etcd

    def has_reclaim_scan_sample(self) -> bool:
        return bool(self.get_data("/api/v1/query", query="orbweaver_reclaim_scan_failed")["result"])


@contextmanager
def process(*command: str, log: Path, **variables: str) -> Iterator[None]:
    with log.open("wb") as log_file:
        running = subprocess.Popen(
            command, stdout=log_file, stderr=log_file, env=os.environ | variables
        )
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(DEADLINE_S)


def eventually(condition: Callable[[], bool], log: Path) -> None:
    for _ in attempts(DEADLINE_S):
        with suppress(NotAnswered):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text("utf-8")[-2000:])


def write_configuration(directory: Path, port_of_job: Mapping[str, int]) -> Path:
    settings = read_yaml((MONITORING_FOLDER / "prometheus.yml").read_text("utf-8"))
    settings["global"]["scrape_interval"] = "1s"
    settings["rule_files"] = [str(MONITORING_FOLDER / "alerts.yml")]
    settings["scrape_configs"] = [
        job | {"static_configs": [{"targets": [f"127.0.0.1:{port_of_job[job['job_name']]}"]}]}
        for job in settings["scrape_configs"]
    ]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings), "utf-8")
    return path


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("monitoring")
    health, metrics, port = free_ports(3)
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(directory / "etcd"))
        controller = stack.enter_context(
            ControllerProcess("c-1", etcd.endpoints[0], "monitored", directory)
        )
        stack.enter_context(
            process(
                *(sys.executable, "-m", "nodeagent.main"),
                log=directory / "agent.log",
                ORBWEAVER_CLUSTER="monitored",
                ORBWEAVER_ETCD_ENDPOINTS=etcd.endpoints[0],
                ORBWEAVER_SOCKET_PATH=str(directory / "agent.sock"),
                ORBWEAVER_PLUGIN_LOG_PATH=str(directory / "plugin.log"),
                SPIDERPOOL_NODE_NAME="node-1",
                SPIDERPOOL_ENABLED_METRIC="true",
                SPIDERPOOL_ENABLED_RDMA_METRIC="true",
                SPIDERPOOL_HEALTH_PORT=str(health),
                SPIDERPOOL_METRIC_HTTP_PORT=str(metrics),
            )
        )
        ports = {
            "orbweaver-agent": metrics,
            "orbweaver-controller": controller.metrics_port,
            "orbweaver-etcd": int(etcd.endpoints[0].rpartition(":")[2]),
        }
        assert PROMETHEUS is not None
        log = directory / "prometheus.log"
        stack.enter_context(
            process(
                PROMETHEUS,
                f"--config.file={write_configuration(directory, ports)}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                log=log,
            )
        )
        server = Prometheus(port)
        eventually(server.has_scraped, log)
        eventually(server.has_reclaim_scan_sample, log)
        yield server


def dashboards() -> list[Path]:
    return sorted((MONITORING_FOLDER / "dashboards").glob("*.json"))


def expressions() -> list[str]:
    rules = read_yaml((MONITORING_FOLDER / "alerts.yml").read_text("utf-8"))
    texts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for path in dashboards():
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            texts += [target["expr"] for target in panel["targets"]]
    return [text.replace("$__rate_interval", "5m") for text in texts]


def test_a_query_without_an_answer_fails_with_its_text() -> None:
    (unused_port,) = free_ports(1)

    with pytest.raises(AssertionError, match=r"'query': 'up'.*refused"):
        Prometheus(unused_port).get_data("/api/v1/query", query="up")


def test_prometheus_evaluates_every_expression(prometheus: Prometheus) -> None:
    for expression in expressions():
        assert prometheus.get_data("/api/v1/query", query=expression) is not None


def test_every_metric_in_an_expression_is_exposed_or_conditional(prometheus: Prometheus) -> None:
    used_metrics = {name for expression in expressions() for name in METRIC.findall(expression)}
    exposed = set(prometheus.get_data("/api/v1/label/__name__/values"))

    assert used_metrics - exposed <= CONDITIONAL_METRICS


def test_every_exposed_metric_is_on_the_reference_page(prometheus: Prometheus) -> None:
    page = (PROJECT_ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    exposed = set(prometheus.get_data("/api/v1/label/__name__/values"))
    undocumented = set()
    for metric in exposed:
        # The page omits prefixes and suffixes, and names one of several similar metrics.
        prefix, _, name = metric.partition("_")
        name = re.sub(r"_(bucket|count|sum|total)$", "", name)
        name = re.sub(r"_(max|min|latest)_", "_average_", name)
        spellings = {name, re.sub(r"^ipam_release", "ipam_allocation", name)}
        if prefix in {"spiderpool", "orbweaver"} and not any(
            spelling in page for spelling in spellings
        ):
            undocumented.add(metric)

    assert undocumented == set()


def test_every_rdma_counter_in_an_expression_exists() -> None:
    """Without RDMA devices, Prometheus has no such counters, so ``HELP_TEXTS`` names them."""
    used_metrics = {name for expression in expressions() for name in RDMA.findall(expression)}
    used_metrics -= {"rdma_parent_name"}  # a label

    assert used_metrics
    assert used_metrics <= {f"rdma_{name}_total" for name in HELP_TEXTS}


def test_no_alert_fires_in_a_healthy_cluster(prometheus: Prometheus) -> None:
    alerts = prometheus.get_data("/api/v1/alerts")["alerts"]

    assert [alert for alert in alerts if alert["state"] == "firing"] == []


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_the_panels_of_a_dashboard_do_not_overlap(path: Path) -> None:
    occupied_cells: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text("utf-8"))["panels"]:
        position = panel["gridPos"]
        cells = {
            (column, row)
            for column in range(position["x"], position["x"] + position["w"])
            for row in range(position["y"], position["y"] + position["h"])
        }
        assert not occupied_cells & cells, panel["title"]
        assert all(column < 24 for column, _ in cells), panel["title"]
        occupied_cells |= cells


def test_the_counter_of_paused_workflows_begins_at_zero_for_every_type(
    prometheus: Prometheus,
) -> None:
    """Without an initial sample of 0, a rate would not show the first paused workflow."""
    samples = prometheus.get_data("/api/v1/query", query="workflow_paused_total")["result"]

    types = {sample["metric"]["workflow_type"] for sample in samples}
    assert {archive.WORKFLOW_TYPE, probe.WORKFLOW_TYPE, scan.WORKFLOW_TYPE} <= types
    assert {sample["value"][1] for sample in samples} == {"0"}
