"""Alerts link to runbooks; dashboards query the selected cluster and show Spiderpool's counters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.dashboards.__main__ import files
from tests.ops.monitoring.test_prometheus import MONITORING_FOLDER, PROJECT_ROOT, dashboards
from tests.support.yaml_reader import read_yaml

SITE: Final = "https://orbweaver.example/docs/"
MARKDOWN_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
METRIC_OF_SELECTED_CLUSTER: Final = re.compile(
    r"\b(?:spiderpool|orbweaver|workflow|rdma|etcd)_[a-z_]+\{cluster=~\"\$cluster\""
)
METRIC: Final = re.compile(r"\b(?:spiderpool|orbweaver|workflow|rdma|etcd)_[a-z_]+")
LABELS_LIKE_METRICS: Final = frozenset({"workflow_type", "rdma_parent_name"})
COUNTERS_ON_ALL_FOUR: Final = """
out_of_sequence rx_vport_rdma_multicast_bytes rx_vport_rdma_unicast_bytes
tx_vport_rdma_multicast_bytes tx_vport_rdma_unicast_bytes vport_speed_mbps
"""
"""The counters that each RDMA dashboard of Spiderpool 1.0 has."""

COUNTERS_OF_SPIDERPOOL: Final = {
    "rdma-cluster": """
np_cnp_sent np_ecn_marked_roce_packets rp_cnp_handled rp_cnp_ignored rx_discards rx_pause
tx_pause
""",
    "rdma-node": """
device_tos duplicate_request implied_nak_seq_err local_ack_timeout_err np_cnp_sent
np_ecn_marked_roce_packets out_of_buffer packet_seq_err req_cqe_error req_cqe_flush_error
req_remote_invalid_request resp_cqe_error resp_cqe_flush_error resp_local_length_error
resp_remote_access_errors rnr_nak_retry_err roce_adp_retrans roce_adp_retrans_to
roce_slow_restart roce_slow_restart_cnps roce_slow_restart_trans rp_cnp_handled rp_cnp_ignored
rx_atomic_requests rx_dct_connect rx_discards rx_pause rx_read_requests rx_write_requests
tx_pause
""",
    "rdma-pod": """
duplicate_request implied_nak_seq_err local_ack_timeout_err out_of_buffer packet_seq_err
req_cqe_error req_cqe_flush_error req_remote_access_errors req_remote_invalid_request
resp_cqe_error resp_cqe_flush_error resp_local_length_error resp_remote_access_errors
rnr_nak_retry_err rx_atomic_requests rx_dct_connect rx_read_requests
rx_vport_rdma_multicast_packets rx_vport_rdma_unicast_packets rx_write_requests
tx_vport_rdma_multicast_packets tx_vport_rdma_unicast_packets
""",
    "rdma-workload": """
packet_seq_err rx_vport_rdma_unicast_packets tx_vport_rdma_multicast_packets
tx_vport_rdma_unicast_packets
""",
}
"""RDMA dashboard of Spiderpool 1.0 -> its counters that not all four dashboards have."""


def rules() -> list[dict[str, Any]]:
    groups = read_yaml((MONITORING_FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_every_alert_links_to_its_heading_in_the_runbook() -> None:
    for rule in rules():
        url = rule["annotations"]["runbook_url"]
        page, _, anchor = url.removeprefix(SITE).partition("/#")
        text = (PROJECT_ROOT / "docs" / f"{page}.md").read_text("utf-8")

        assert url.startswith(SITE)
        assert anchor in {
            title.lower().replace(" ", "-") for title in MARKDOWN_HEADING.findall(text)
        }
        assert anchor == rule["alert"].lower()


def test_alertmanager_names_only_alerts_that_exist() -> None:
    settings = read_yaml((MONITORING_FOLDER / "alertmanager.yml").read_text("utf-8"))
    existing_alerts = {rule["alert"] for rule in rules()}
    alerts_in_inhibit_rules = {
        name
        for rule in settings["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        for name in re.findall(r"Orbweaver\w+", matcher)
    }

    assert alerts_in_inhibit_rules
    assert alerts_in_inhibit_rules <= existing_alerts


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_a_dashboard_queries_the_selected_data_source_for_the_selected_cluster(path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    variables = [variable["name"] for variable in board["templating"]["list"]]
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]

    assert variables[:2] == ["datasource", "cluster"]
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}
    for expression in expressions:
        metrics = [name for name in METRIC.findall(expression) if name not in LABELS_LIKE_METRICS]
        assert len(METRIC_OF_SELECTED_CLUSTER.findall(expression)) == len(metrics), expression


@pytest.mark.parametrize("name", COUNTERS_OF_SPIDERPOOL)
def test_every_counter_on_a_dashboard_of_spiderpool_is_on_our_dashboard(name: str) -> None:
    text = (MONITORING_FOLDER / "dashboards" / f"{name}.json").read_text("utf-8")

    counters = (COUNTERS_ON_ALL_FOUR + COUNTERS_OF_SPIDERPOOL[name]).split()
    assert [counter for counter in counters if f"rdma_{counter}_total" not in text] == []


def test_the_stored_rdma_dashboards_equal_the_output_of_scripts_dashboards() -> None:
    rdma_paths = [path for path in dashboards() if path.stem.startswith("rdma-")]
    stored = {path: path.read_text("utf-8") for path in rdma_paths}

    assert stored == files(), "run python -m scripts.dashboards"
